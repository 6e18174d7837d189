"""How a streamed answer travels: as NDJSON or as server-sent events (SSE)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from aiohttp import web

from .error_table import ErrorTable

Line = dict[str, object]
Lines = AsyncGenerator[Line, None]


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """Encodes the lines of one stream."""

    content_type: str
    encode: Callable[[Line], bytes]
    end: bytes = b""  # ends a stream that did not fail


NDJSON = StreamFormat("application/x-ndjson", lambda line: msgspec.json.encode(line) + b"\n")


def sse(*, event_field: str = "", sentinel: str = "") -> StreamFormat:
    """Server-sent events (WHATWG HTML 9.2): one `data:` line of compact JSON per line.

    The value of `event_field` in a line also names its event; `sentinel` is the data of a last
    event. JSON escapes line breaks, so that no event is cut in two.
    """

    def encode(line: Line) -> bytes:
        data = b"data: " + msgspec.json.encode(line) + b"\n\n"
        return f"event: {line[event_field]}\n".encode() + data if event_field else data

    end = f"data: {sentinel}\n\n".encode() if sentinel else b""
    return StreamFormat("text/event-stream", encode, end)


async def respond(
    request: web.Request,
    lines: Lines,
    stream_format: StreamFormat,
    errors: ErrorTable,
    headers: Callable[[], Mapping[str, str]] = dict,
) -> web.StreamResponse:
    """Send the lines as they come; `headers` is called once the first line is known.

    An error before the first line is raised, so that it gets an HTTP status of its own. Any later
    one is the last line of the stream. A client that leaves ends the lines.
    """
    async with aclosing(lines):
        first = stream_format.encode(await anext(lines))
        response = web.StreamResponse(headers=headers())
        response.content_type = stream_format.content_type
        with contextlib.suppress(ConnectionError):  # of the client: `_rest` raises none
            await response.prepare(request)
            await response.write(first)
            async with aclosing(_rest(request, lines, stream_format, errors)) as rest:
                async for data in rest:
                    await response.write(data)
            await response.write_eof()
        return response


async def _rest(
    request: web.Request, lines: Lines, stream_format: StreamFormat, errors: ErrorTable
) -> AsyncGenerator[bytes, None]:
    """What follows the first line; an exception becomes the dialect's error line."""
    try:
        async for line in lines:
            yield stream_format.encode(line)
    except Exception as error:
        yield stream_format.encode(errors.explain(error, request, in_stream=True).body)
    else:
        if stream_format.end:
            yield stream_format.end
