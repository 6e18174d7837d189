"""A proxy in front of a registry that injects faults into chosen answers, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

HOP_HEADERS = {"transfer-encoding", "connection", "content-length", "host", "date", "server"}


@dataclass
class Fault:
    """What goes wrong with the next `times` answers to requests that fit."""

    path: str = "/blobs/"  # a part of the path
    method: str = "GET"
    times: int = 1
    status: int = 0  # answered instead of asking the registry
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    cut_after: int | None = None  # bytes of the body, then the connection is cut
    stall_after: int | None = None  # bytes of the body, then nothing comes
    flip: bool = False  # the first byte of the body is another one
    whole: bool = False  # the Range header is ignored
    chunk_s: float = 0.0  # seconds before each piece of the body


class FaultProxy:
    """Forwards to the registry at `target`; `host` is known while it serves."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.host = ""
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, Mapping[str, str]]] = []
        self.stalled = asyncio.Event()
        self.slow = asyncio.Event()  # a slow body has begun

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FaultProxy]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True
        )
        await runner.setup()
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.host = f"127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                await runner.cleanup()

    def count(self, method: str, path: str) -> int:
        """How many requests there were with that method and that text in their path."""
        return sum(method == told and path in where for told, where, _ in self.seen)

    def _fault(self, request: web.Request) -> Fault:
        for fault in self.faults:
            fits = fault.path in request.path and fault.method == request.method
            if fits and fault.times:
                fault.times -= 1
                return fault
        return Fault()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path, dict(request.headers)))
        fault = self._fault(request)
        if fault.status:
            return web.Response(status=fault.status, headers=dict(fault.headers), text=fault.body)
        dropped = HOP_HEADERS | ({"range"} if fault.whole else set())
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        url = f"http://{self.target}{request.raw_path}"
        body = await request.read() if request.can_read_body else None
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            for key, value in answer.headers.items():
                if key.lower() not in HOP_HEADERS:
                    response.headers[key] = value.replace(self.target, self.host)
            response.content_length = answer.content_length
            await response.prepare(request)
            if request.method != "HEAD":
                await self._copy(answer, response, request, fault)
            return response

    async def _copy(
        self,
        answer: aiohttp.ClientResponse,
        response: web.StreamResponse,
        request: web.Request,
        fault: Fault,
    ) -> None:
        limit = fault.cut_after if fault.cut_after is not None else fault.stall_after
        sent = 0
        async for chunk in answer.content.iter_chunked(4096):
            piece = bytes([chunk[0] ^ 1]) + chunk[1:] if fault.flip and not sent else chunk
            if fault.chunk_s:
                self.slow.set()
                await asyncio.sleep(fault.chunk_s)
            await response.write(piece if limit is None else piece[: limit - sent])
            sent += len(piece)
            if limit is not None and sent >= limit:
                break
        else:
            return
        if fault.stall_after is not None:
            self.stalled.set()
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.abort()
