"""How a JSON body becomes the fields of a request, and how a bad body is refused (CONTRACT 0).

No body may hold up the requests beside it, so a large one is read on a thread. Its parser holds the
interpreter's lock, for which reason what it may hold is bounded before it is parsed.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import NoReturn, TypeVar

import msgspec
from aiohttp import hdrs, web
from pydantic import ValidationError

from ..errors import BadRequest, TooLarge
from ..log_lines import shorten
from .wire_model import MAX_VALUES, WireModel

R = TypeVar("R", bound="WireModel")

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
BLANKS = b" \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

INLINE_BYTES = 8 << 10  # of a body that is read at once: a thread costs more than its parsing
MAX_DECODED_BYTES = 20 << 20  # of a compressed body (CONTRACT 2.6)
LENIENT_BYTES = 4 << 20  # of a body that the slower parser may read
MAX_READING = 2  # threads that read bodies: a third one would keep the loop from the lock
# Bounds on a body. A context of half a million tokens fits, and a conversation of 4,000 messages
# with calls; the parser takes some 50 ms for each of them.
MAX_CONTAINERS = 1 << 15  # objects and arrays
MAX_KEYS = 1 << 16  # of objects
MAX_ESCAPES = 1 << 22  # of strings
MAX_DEPTH = 256
TOO_DEEP = "the JSON is nested too deeply"
MAX_SHOWN_CHARS = 100  # of a value in an error
MAX_NUMBER_CHARS = 400  # a double has at most 309 digits before its point

READING = web.AppKey("reading", asyncio.Semaphore)
"""Held by who reads a large body."""


async def read(
    request: web.Request,
    kind: type[R],
    *,
    if_empty: str = "missing request body",
    max_bytes: int | None = None,
) -> R:
    """The request's body, whatever its Content-Type; `max_bytes` None: as large as any body may be.

    Raises BadRequest and TooLarge.
    """
    body = await _read_bytes(request, max_bytes)
    if len(body) <= INLINE_BYTES:
        return _read(body, kind, if_empty)
    async with request.app[READING]:
        return await asyncio.to_thread(_read, body, kind, if_empty)


def _read(body: bytes, kind: type[R], if_empty: str) -> R:
    body = body.removeprefix(BYTE_ORDER_MARK).lstrip(BLANKS)
    if not body:
        raise BadRequest(if_empty)
    try:
        if len(body) > INLINE_BYTES:
            _check_extent(body)
        return kind.model_validate(_parse(body))
    except RecursionError:
        raise BadRequest(TOO_DEEP) from None
    except ValidationError as error:
        raise BadRequest(_explain(error)) from None
    except ValueError as error:
        raise BadRequest(f"invalid JSON: {error}") from None


async def _read_bytes(request: web.Request, max_bytes: int | None) -> bytes:
    limit = request.client_max_size if max_bytes is None else max_bytes
    is_encoded = hdrs.CONTENT_ENCODING in request.headers
    limit = min(limit, MAX_DECODED_BYTES) if is_encoded else limit
    data = bytearray()
    try:
        async for chunk in request.content.iter_any():
            data += chunk
            if len(data) > limit:
                break
    except web.RequestPayloadError as error:
        raise unreadable(error) from error
    if len(data) > limit:
        if is_encoded and request.protocol:
            # aiohttp would read the rest before it closes the connection, and decompress it, which
            # holds up everybody. Some clients see a closed connection instead of the answer.
            request.protocol.force_close()
        size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
        raise TooLarge(f"the request body is too large: at most {size} are read")
    return bytes(data)


def unreadable(error: web.RequestPayloadError) -> BadRequest:
    """What a client is told whose body is cut off, badly encoded, or too slow."""
    reason = str(error).partition("message:")[2].strip() or str(error)
    return BadRequest(f"the request body cannot be read: {reason}")


def _parse(body: bytes) -> object:
    """The first JSON value in the body. Raises ValueError.

    msgspec is the faster parser. What it does not take is left to the other one, which says what
    is wrong, and takes some things that clients do send: text after the value, and bytes that are
    no UTF-8. That takes its time, so it goes up to LENIENT_BYTES.
    """
    if len(body) > INLINE_BYTES:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if len(body) > LENIENT_BYTES:
                raise
    return _parse_leniently(body.decode("utf-8", "replace"))


def _parse_leniently(body: str) -> object:
    """As `_parse`. A lone surrogate, as sent by clients that cut a string inside an emoji, becomes
    U+FFFD, because UTF-8 cannot encode it."""
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer, parse_float=_finite)
    value: object = decoder.raw_decode(body)[0]
    if not SURROGATE.search(body):
        return value
    halves = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
    return json.loads(halves.decode("utf-16-le", "replace"))


def _check_extent(body: bytes) -> None:
    """Raises BadRequest for a text that would keep the parser busy for too long."""
    from .json_extent import measure_json  # numpy, for which large bodies alone have a use

    extent = measure_json(body)
    if extent.depth > MAX_DEPTH:
        raise BadRequest(TOO_DEEP)
    bounds = (
        ("values", extent.num_values, MAX_VALUES),
        ("objects and arrays", extent.num_containers, MAX_CONTAINERS),
        ("keys", extent.num_keys, MAX_KEYS),
        ("escaped characters", extent.num_escapes, MAX_ESCAPES),
    )
    for what, count, limit in bounds:
        if count > limit:
            raise BadRequest(f"the JSON has too many {what}: {count:,}; at most {limit:,} are read")


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number has {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    """Raises ValueError for a number that no 64-bit float holds."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shorten(text, MAX_SHOWN_CHARS)} does not fit a 64-bit float")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in first["loc"]) or "the request"
    return f"json: {place}: {first['msg']}"
