"""A daemon that stops: running requests are waited for, new ones refused or served to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from outrider.daemon.api.drain import Drain
from outrider.daemon.app import answer_errors

pytestmark = pytest.mark.unit

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def entered() -> asyncio.Event:
    """Set once a request is in its handler."""
    return asyncio.Event()


@pytest.fixture
async def client(
    drain: Drain, gate: asyncio.Event, entered: asyncio.Event
) -> AsyncIterator[Client]:
    async def hold(_request: web.Request) -> web.Response:
        entered.set()
        await gate.wait()
        return web.Response(text="held")

    app = web.Application(middlewares=[answer_errors, drain.count])
    app.on_response_prepare.append(drain.mark)
    for path in ("/api/chat", "/api/pull", "/v1/messages"):
        app.router.add_route("*", path, hold)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_it_waits_for_what_runs(
    drain: Drain, gate: asyncio.Event, entered: asyncio.Event, client: Client
) -> None:
    assert await drain.wait(0.0)
    request = asyncio.create_task(client.post("/api/chat"))
    await entered.wait()
    assert not await drain.wait(0.01)
    drain.begin(refuses=True)
    gate.set()
    assert await drain.wait(float("inf"))
    answer = await request
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert "Retry-After" not in answer.headers


async def test_a_new_request_is_told_when_to_come_back(drain: Drain, client: Client) -> None:
    drain.begin(refuses=True)
    async with client.post("/api/chat") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.headers["Connection"] == "close"
        assert await answer.json() == {"error": "the daemon is stopping; please try again"}
    async with client.post("/v1/messages") as answer:
        assert answer.status >= 500
        assert answer.headers["Retry-After"] == "5"
        assert (await answer.json())["type"] == "error"


async def test_where_connections_wait_elsewhere_nothing_is_refused(
    drain: Drain, gate: asyncio.Event, client: Client
) -> None:
    drain.begin(refuses=False)
    gate.set()
    async with client.post("/api/chat") as answer:
        assert (answer.status, answer.headers["Connection"]) == (200, "close")


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/chat"), ("POST", "/api/pull")])
async def test_streams_of_events_and_transfers_hold_up_no_stop(
    drain: Drain,
    gate: asyncio.Event,
    entered: asyncio.Event,
    client: Client,
    method: str,
    path: str,
) -> None:
    request = asyncio.create_task(client.request(method, path))
    await entered.wait()
    assert drain.num_running == 0
    gate.set()
    assert (await request).status == 200
