"""How does the state of the daemon reach who looks: once, or once a second as server-sent events?

Nothing happens while nobody looks. Not in Ollama.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from aiohttp import web

from ..errors import Busy
from ..snapshot import Moment, Snapshot, take_snapshot
from .recent import RECENT
from .state import APP_STATE

INTERVAL_S = 1.0  # between two snapshots of one watcher
SHARED_S = 0.5  # as long as a snapshot is new enough for another watcher
MAX_WATCHERS = 16  # each has a connection
TOO_MANY = f"{MAX_WATCHERS} pages are open already; close one of them"


class LiveFeed:
    """Snapshots as JSON for any number of watchers, made when one of them asks."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self.num_watchers = 0
        self._take = take
        self._encoded = b""
        self._taken_s = -SHARED_S  # monotonic
        self._closed = asyncio.Event()

    async def close(self, _app: web.Application) -> None:
        """End all streams: a daemon that stops would wait for them."""
        self._closed.set()

    def newest(self) -> bytes:
        """A snapshot that is at most SHARED_S old."""
        now_s = time.monotonic()
        if now_s - self._taken_s >= SHARED_S:
            self._encoded, self._taken_s = msgspec.json.encode(self._take()), now_s
        return self._encoded

    async def send(self, response: web.StreamResponse) -> None:
        """Write snapshots until the client leaves, or the daemon stops.

        A client that reads slowly misses some: what was sent is awaited before the next one is
        made, so nothing is queued for it.
        """
        self.num_watchers += 1
        try:
            while not self._closed.is_set():
                await response.write(b"data: " + self.newest() + b"\n\n")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), INTERVAL_S)
        finally:
            self.num_watchers -= 1


FEED = web.AppKey("feed", LiveFeed)


def build_feed(app: web.Application, version: str) -> LiveFeed:
    """A feed of what this application does."""
    state, requests, started_s = app[APP_STATE], app[RECENT], time.monotonic()

    def take() -> Snapshot:
        return take_snapshot(
            Moment(version, time.time(), time.monotonic(), started_s),
            state.machine,
            state.pool.loaded_models,
            (state.pool.num_queued, state.pool.counters),
            requests.describe(),
        )

    feed = LiveFeed(take)
    app.on_shutdown.append(feed.close)
    return feed


async def snapshot(request: web.Request) -> web.Response:
    """GET /api/snapshot"""
    body = request.app[FEED].newest()
    return web.Response(body=body, content_type="application/json", charset="utf-8")


async def live(request: web.Request) -> web.StreamResponse:
    """GET /api/live: raises Busy where too many look already."""
    feed = request.app[FEED]
    if feed.num_watchers >= MAX_WATCHERS:
        raise Busy(TOO_MANY)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    with suppress(ConnectionError):  # of the client
        await response.prepare(request)
        if request.method == "GET":
            await feed.send(response)
    return response
