"""Connections: how many there may be, and when one that stands still is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from outrider.daemon.api import connections
from outrider.daemon.api.connections import (
    RESERVED_DESCRIPTORS,
    ConnectionLimits,
    ConnectionTable,
    LimitedRunner,
    client_of,
    fit_to_descriptors,
    watch_connection,
)

pytestmark = pytest.mark.unit

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
SHORT_S = 0.05
PATIENCE_S = 5.0  # after which a connection that ought to be closed fails its test


@dataclass
class Site:
    """A server with limits, on a free port."""

    runner: LimitedRunner
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.runner.addresses[0][1])

    @property
    def table(self) -> ConnectionTable:
        return self.runner.table

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        """Close what the clients have left open."""
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def send(self, data: bytes) -> bytes:
        """Everything that is answered until the connection closes."""
        reader, writer = await self.connect()
        writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()


@asynccontextmanager
async def serve(**limits: float) -> AsyncIterator[Site]:
    app = web.Application(middlewares=[watch_connection])
    made = ConnectionLimits(**limits)  # type: ignore[arg-type]
    runner = LimitedRunner(app, made, handler_cancellation=True, max_field_size=1 << 16)
    site = Site(runner)

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def read(request: web.Request) -> web.Response:
        try:
            return web.Response(text=f"{len(await request.read())} bytes")
        except web.RequestPayloadError as error:
            return web.Response(status=400, text=str(error))

    async def wait(_request: web.Request) -> web.Response:
        await site.gate.wait()
        return web.Response(text="waited")

    app.router.add_get("/", hello)
    app.router.add_post("/read", read)
    app.router.add_get("/wait", wait)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
    try:
        yield site
    finally:
        await site.close()
        await runner.cleanup()


async def test_300_idle_and_half_sent_connections_are_closed_in_time() -> None:
    async with serve(idle_s=0.4, header_s=0.2) as site:
        starts = (b"", b"G", HEAD, HEAD + b"X: ")
        answers = await asyncio.gather(*(site.send(starts[i % 4]) for i in range(300)))
        assert {answer[:12] for answer in answers[0::4]} == {b""}
        assert {answer[:12] for answer in answers[1::4] + answers[2::4]} == {b"HTTP/1.1 408"}
        assert site.table.num_open == 0


async def test_headers_that_trickle_in_are_bounded_as_a_whole() -> None:
    async with serve(header_s=SHORT_S) as site:
        reader, writer = await site.connect()
        writer.write(HEAD)
        answer = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(PATIENCE_S):
            while not answer.done():
                writer.write(b"X: y\r\n")
                await asyncio.wait([answer], timeout=SHORT_S / 10)
        assert b"the headers took longer than 0.05 s" in await answer


async def test_the_time_of_a_header_begins_with_its_first_byte() -> None:
    async with serve(header_s=SHORT_S) as site:
        reader, writer = await site.connect()
        for _ in range(3):
            await asyncio.sleep(2 * SHORT_S)
            writer.write(HEAD + b"\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")


async def test_an_idle_connection_is_closed_between_requests() -> None:
    async with serve(idle_s=SHORT_S) as site:
        answer = await site.send(HEAD + b"\r\n" + HEAD + b"\r\n")
        assert answer.count(b"hello") == 2


async def test_a_long_request_is_not_idle() -> None:
    async with serve(idle_s=SHORT_S, header_s=SHORT_S) as site:
        reader, writer = await site.connect()
        writer.write(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 4 * SHORT_S)
        site.gate.set()
        assert (await reader.readuntil(b"waited")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_stands_still_fails() -> None:
    async with serve(idle_s=SHORT_S) as site:
        answer = await site.send(POST + b"12345")
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.endswith(b"nothing of it came for 0.05 s")


async def test_a_body_that_comes_slowly_is_read() -> None:
    async with serve(idle_s=4 * SHORT_S) as site:
        reader, writer = await site.connect()
        writer.write(POST)
        for _ in range(5):
            await asyncio.sleep(SHORT_S)
            writer.write(b"xx")
        assert (await reader.readuntil(b"10 bytes")).startswith(b"HTTP/1.1 200")


async def test_headers_have_a_size_in_all() -> None:
    async with serve() as site:
        headers = b"".join(b"X%d: %s\r\n" % (i, b"y" * 60_000) for i in range(16))
        assert (await site.send(HEAD + headers + b"Connection: close\r\n\r\n")).endswith(b"hello")
        reader, writer = await site.connect()
        writer.write(HEAD + headers + headers)
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")


async def test_connections_beyond_the_limit_are_told_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REFUSAL_S", SHORT_S)
    async with serve(max_total=2) as site:
        kept = [await site.connect() for _ in range(2)]
        for _, writer in kept:
            writer.write(HEAD + b"\r\n")
        for reader, _ in kept:
            assert await reader.readuntil(b"hello")
        for data in (b"", HEAD + b"\r\n"):
            answer = await site.send(data)
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert b'{"error": "too many connections are open; close some, or raise' in answer
        assert (site.table.num_open, site.table.num_refused) == (2, 2)
        assert caplog.messages == [
            "a connection from this machine is refused: too many connections are open; close some, "
            "or raise OUTRIDER_MAX_CONNECTIONS; 2 are open, 1 were refused so far"
        ]
        kept[0][1].close()
        await kept[0][1].wait_closed()
        async with asyncio.timeout(PATIENCE_S):
            while site.table.num_open == 2:  # noqa: ASYNC110  the server has no event for it
                await asyncio.sleep(0)
        assert (await site.send(HEAD + b"Connection: close\r\n\r\n")).endswith(b"hello")


async def test_refusals_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_REFUSED", 1)
    async with serve(max_total=1) as site:
        await site.connect()
        told, _ = await site.connect()
        assert await told.readuntil(b"}")
        reader, _ = await site.connect()
        assert await reader.read() == b""


async def test_a_garbled_request_ends_its_connection() -> None:
    async with serve() as site:
        assert b" 400 Bad Request\r\n" in await site.send(b"\r\n\r\nnothing\r\n\r\n")
        assert site.table.num_open == 0


async def test_clients_that_leave_are_forgotten() -> None:
    async with serve() as site:
        for data in (b"", HEAD, POST, b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            _, writer = await site.connect()
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(PATIENCE_S):
            while site.table.num_open:  # noqa: ASYNC110  the server has no event for it
                await asyncio.sleep(0)


def test_each_client_has_a_bound_but_this_machine() -> None:
    table = ConnectionTable(ConnectionLimits(max_total=5, max_per_client=2))
    assert [table.admit("10.0.0.1") for _ in range(3)] == [
        *("", ""),
        "OUTRIDER_MAX_CLIENT_CONNECTIONS",
    ]
    table.release("10.0.0.1")
    assert table.admit("10.0.0.1") == ""
    assert [table.admit("") for _ in range(4)] == [*("", "", ""), "OUTRIDER_MAX_CONNECTIONS"]
    assert table.num_open == 5


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("127.0.0.1", 5), ""),
        (("::1", 5, 0, 0), ""),
        ("", ""),
        (None, ""),
        (("::ffff:127.0.0.1", 5, 0, 0), ""),
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8::1:2:3:4", 5, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
    ],
)
def test_what_counts_as_one_client(peer: object, client: str) -> None:
    assert client_of(peer) == client


@pytest.mark.parametrize(
    ("soft", "hard", "fits", "raised"),
    [
        (1024, 1 << 19, 4096, 4096 + RESERVED_DESCRIPTORS),
        (1024, 1024, 1024 - RESERVED_DESCRIPTORS, 1024),
        (1 << 19, 1 << 19, 4096, None),
        (1024, resource.RLIM_INFINITY, 4096, 4096 + RESERVED_DESCRIPTORS),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 4096, None),
        (64, 64, 1, 64),
    ],
)
def test_connections_fit_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, fits: int, raised: int | None
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limit: limits.append(limit))
    assert fit_to_descriptors(4096) == fits
    assert limits == ([] if raised is None else [(raised, hard)])


def test_for_ever_is_a_time_that_timers_take() -> None:
    assert ConnectionLimits(idle_s=math.inf).keepalive_s == 1e8


async def test_the_log_tells_of_refusals_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    table = ConnectionTable(ConnectionLimits())
    for now_s in (0.0, 1.0, 9.0, 10.5):
        table.note_refusal("10.0.0.1", "X", now_s)
    assert [text.rpartition(", ")[2] for text in caplog.messages] == [
        "1 were refused so far",
        "4 were refused so far",
    ]


async def test_a_client_that_takes_nothing_ends_its_request() -> None:
    ended = asyncio.Event()
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 1000)
                sent += 1000
        finally:
            ended.set()

    async with serve(send_s=0.2) as site:
        site.runner.app.router._frozen = False
        site.runner.app.router.add_get("/endless", endless)
        sleeping = socket.socket()
        sleeping.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sleeping.setblocking(False)
        with sleeping:
            await asyncio.get_running_loop().sock_connect(sleeping, ("127.0.0.1", site.port))
            sleeping.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        assert sent < 1 << 20  # what kernel and daemon have buffered


async def test_a_slow_client_that_takes_something_is_served() -> None:
    body = b"x" * (1 << 21)

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with serve(send_s=0.3) as site:
        site.runner.app.router._frozen = False
        site.runner.app.router.add_get("/large", large)
        reader, writer = await site.connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        num_bytes = 0
        start_s = asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE_S):
            while chunk := await reader.read(1 << 18):
                num_bytes += len(chunk)
                await asyncio.sleep(0.02)
        assert num_bytes > len(body)
        assert asyncio.get_running_loop().time() - start_s > 0.1
