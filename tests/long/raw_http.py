"""How do tests send bytes that no HTTP library would send, and read what comes back?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

HANG_S = 30.0  # without a byte of the answer: the request hangs
READ_S = 4.0  # for which a stream is read; then the client leaves
READ_BYTES = 1 << 20  # of an answer, likewise


@dataclass(frozen=True, slots=True)
class RawRequest:
    """The bytes of a request, and what the client does with its connection."""

    data: bytes
    is_complete: bool = True  # whether the bytes ask for an answer
    leaves_after_s: float | None = None  # when the client closes the connection, whatever comes


@dataclass(frozen=True, slots=True)
class RawReply:
    """What came back; status 0: nothing did."""

    status: int = 0
    headers: str = ""
    body: bytes = b""
    is_whole: bool = False  # the connection was closed by the daemon, as it was asked to
    hung: bool = False
    took_s: float = 0.0


async def exchange(host: str, port: int, request: RawRequest, hang_s: float = HANG_S) -> RawReply:
    """Sends a request on a connection of its own, and reads until the daemon closes it.

    It hangs after `hang_s` without a byte of the answer.
    """
    start_s = time.monotonic()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 21)
    try:
        sending = asyncio.create_task(_send(writer, request.data))
        data, is_whole, hung = await _read(reader, request, hang_s)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    finally:
        writer.transport.abort()
    return parse(data, is_whole=is_whole, hung=hung, took_s=time.monotonic() - start_s)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        pass  # refused before it was read


async def _read(
    reader: asyncio.StreamReader, request: RawRequest, hang_s: float
) -> tuple[bytes, bool, bool]:
    """The bytes; whether they are all; whether the client has waited in vain."""
    data, start_s = bytearray(), time.monotonic()
    wait_s = hang_s if request.is_complete else 0.5
    leave_s = request.leaves_after_s if request.leaves_after_s is not None else wait_s
    while True:
        try:
            piece = await asyncio.wait_for(reader.read(1 << 16), min(wait_s, leave_s))
        except TimeoutError:
            return bytes(data), False, request.is_complete and leave_s >= wait_s
        except ConnectionError:
            return bytes(data), False, False
        if not piece:
            return bytes(data), True, False
        data += piece
        if time.monotonic() - start_s > min(READ_S, leave_s) or len(data) > READ_BYTES:
            return bytes(data), False, False


def parse(data: bytes, *, is_whole: bool, hung: bool, took_s: float) -> RawReply:
    """The last part of a reply, after interim ones."""
    while data.startswith(b"HTTP/1.1 100"):
        data = data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return RawReply(0, "", data, is_whole, hung, took_s)
    headers = head.decode("latin-1").lower()
    if "transfer-encoding: chunked" in headers:
        body = _join(body)
    return RawReply(int(words[1]), headers, body, is_whole, hung, took_s)


def _join(body: bytes) -> bytes:
    """What the chunks hold, as far as they are there."""
    found = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            break
        found += rest[:length]
        body = rest[length + 2 :]
    return bytes(found)
