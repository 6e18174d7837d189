"""A fake daemon with scripted answers, over real HTTP on a free loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """A whole answer; a dict or list is sent as JSON."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lines:
    """A streamed NDJSON answer; `ending` is "end", "cut" (connection breaks) or "hang"."""

    lines: Sequence[object]
    ending: str = "end"


@dataclass
class Scripted:
    """Answers by "METHOD /path"; everything else is 404. A list has an answer for each request, the
    last one for all further ones. `seen` keeps the requests, and `uploads` the bodies of blobs,
    which are not JSON."""

    script: Mapping[str, Reply | Lines | Sequence[Reply | Lines]]
    seen: list[tuple[str, Any]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self.dropped = asyncio.Event()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def bodies(self, route: str) -> list[Any]:
        """The bodies of all requests for "METHOD /path", in order."""
        return [body for name, body in self.seen if name == route]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        route, text = f"{request.method} {request.path}", await request.read()
        if text and request.path.startswith("/api/blobs/"):
            self.uploads[route] = text
        else:
            self.seen.append((route, json.loads(text) if text else None))
        answer = self.script.get(route, Reply({"error": "model 'x' not found"}, 404))
        if isinstance(answer, list | tuple):
            answer = answer[min(len(self.bodies(route)), len(answer)) - 1]
        if isinstance(answer, Lines):
            return await self._stream(request, answer)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        return web.Response(body=body, status=answer.status, headers=answer.headers)

    async def _stream(self, request: web.Request, answer: Lines) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for line in answer.lines:
            await response.write(json.dumps(line).encode() + b"\n")
        if answer.ending == "hang":
            await self._wait_for_the_client_to_go()
        if answer.ending == "cut" and request.transport:
            request.transport.abort()
        with suppress(ConnectionError):
            await response.write_eof()
        return response

    async def _wait_for_the_client_to_go(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.dropped.set()
