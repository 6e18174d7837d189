"""The two formats of a stream, and how a stream ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from outrider.daemon.api.error_table import INTERNAL, ErrorTable
from outrider.daemon.api.streaming import NDJSON, Line, Lines, StreamFormat, respond, sse
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

LINES: list[Line] = [{"type": "start", "text": "a\r\nb\u2028\u0085c"}, {"type": "end", "n": [1]}]
ERRORS = ErrorTable({BadRequest: 418}, lambda status, text: {"type": "error", "it": [status, text]})


def test_ndjson_is_one_object_per_line() -> None:
    data = b"".join(map(NDJSON.encode, LINES))
    assert data.endswith(b"\n")
    assert [json.loads(line) for line in data.split(b"\n")[:-1]] == LINES
    assert NDJSON.end == b""


def test_an_sse_event_is_one_data_line() -> None:
    assert sse().encode({"a": "ü\n"}) == 'data: {"a":"ü\\n"}\n\n'.encode()
    assert sse().end == b""
    first, rest = sse().encode(LINES[0]).split(b"\n", 1)
    assert rest == b"\n"
    assert b"\r" not in first
    assert json.loads(first.removeprefix(b"data: ")) == LINES[0]


def test_an_sse_event_may_have_a_name() -> None:
    named = sse(event_field="type")
    assert named.encode(LINES[1]) == b'event: end\ndata: {"type":"end","n":[1]}\n\n'


def test_a_sentinel_ends_sse() -> None:
    assert sse(sentinel="[DONE]").end == b"data: [DONE]\n\n"


async def two_lines() -> Lines:
    for line in LINES:
        yield line


async def one_line_and_a_refusal() -> Lines:
    yield LINES[0]
    raise BadRequest("no")


async def one_line_and_a_fault() -> Lines:
    yield LINES[0]
    raise KeyError("secret")


async def what_json_cannot_express() -> Lines:
    yield LINES[0]
    yield {"type": "odd", "it": object()}


async def a_refusal() -> Lines:
    raise BadRequest("no")
    yield {}


@asynccontextmanager
async def served(lines: Callable[[], Lines], form: StreamFormat) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await respond(request, lines(), form, ERRORS)
        except BadRequest as error:
            return web.Response(status=418, text=f"refused: {error}")

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def read(lines: Callable[[], Lines], form: StreamFormat) -> tuple[int, str, bytes]:
    async with (
        served(lines, form) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.read()


OPENAI, ANTHROPIC = sse(sentinel="[DONE]"), sse(event_field="type")


@pytest.mark.parametrize("form", [NDJSON, OPENAI, ANTHROPIC], ids=["ndjson", "openai", "anthropic"])
async def test_a_stream_that_succeeds(form: StreamFormat) -> None:
    expected = b"".join(map(form.encode, LINES)) + form.end
    assert await read(two_lines, form) == (200, form.content_type, expected)


@pytest.mark.parametrize("form", [NDJSON, OPENAI, ANTHROPIC], ids=["ndjson", "openai", "anthropic"])
@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (one_line_and_a_refusal, [418, "no"]),
        (one_line_and_a_fault, [500, INTERNAL]),
        (what_json_cannot_express, [500, INTERNAL]),
    ],
)
async def test_a_stream_that_fails_ends_with_one_error_line(
    form: StreamFormat, lines: Callable[[], Lines], reply: Line, caplog: pytest.LogCaptureFixture
) -> None:
    error = form.encode({"type": "error", "it": reply})
    assert await read(lines, form) == (200, form.content_type, form.encode(LINES[0]) + error)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


async def test_an_error_before_the_first_line_is_raised() -> None:
    status, _, body = await read(a_refusal, NDJSON)
    assert (status, body) == (418, b"refused: no")


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_client_that_leaves_ends_the_lines(
    is_cancelled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def endless() -> Lines:
        try:
            while True:
                yield LINES[0]
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await respond(request, endless(), NDJSON, ERRORS)

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, handler_cancellation=is_cancelled)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            await answer.content.readline()
            answer.close()
        await asyncio.wait_for(closed.wait(), 5)
    finally:
        await runner.cleanup()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_headers_are_asked_for_once_the_first_line_is_known() -> None:
    told: dict[str, str] = {}

    async def lines() -> Lines:
        told["Told"] = "first"
        yield LINES[0]
        told["Told"] = "later"

    async def handle(request: web.Request) -> web.StreamResponse:
        return await respond(request, lines(), NDJSON, ERRORS, lambda: told)

    app = web.Application()
    app.router.add_get("/", handle)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.make_url("/")) as answer,
    ):
        assert answer.headers["Told"] == "first"
        assert await answer.read() == NDJSON.encode(LINES[0])
