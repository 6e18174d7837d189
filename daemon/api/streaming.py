"""How an answer travels: line by line as NDJSON, or folded into one object (CONTRACT 0)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from aiohttp import web

from ..errors import OutriderError

Line = dict[str, object]
Lines = AsyncGenerator[Line, None]
Fold = Callable[[list[Line]], Line]


def last_line(lines: list[Line]) -> Line:
    """The fold of progress reports: only the end matters."""
    return lines[-1]


async def respond(
    request: web.Request, lines: Lines, *, stream: bool, fold: Fold
) -> web.StreamResponse:
    """Send the lines. An error before the first of them keeps its HTTP status."""
    async with aclosing(lines):
        if not stream:
            return web.json_response(fold([line async for line in lines]))
        first = await anext(lines)
        response = web.StreamResponse()
        response.content_type = "application/x-ndjson"
        await response.prepare(request)
        try:
            await response.write(_encode(first))
            async for line in lines:
                await response.write(_encode(line))
        except OutriderError as error:
            await response.write(_encode({"error": str(error)}))
        await response.write_eof()
        return response


def _encode(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"
