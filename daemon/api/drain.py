"""Which requests are still running when the daemon stops, and what becomes of new ones?"""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from ..errors import Busy
from .guard import Handler

RETRY_AFTER_S = 5  # a restart takes less, once the running requests have ended
STOPPING = "the daemon is stopping; please try again"
# Answers to these methods are short, or they are streams of events, which have no end.
NOT_AWAITED_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# A transfer may last for hours; it goes on where it was when it is asked for again.
NOT_AWAITED_PATHS = frozenset({"/api/pull", "/api/push"})


class Drain:
    """Counts the requests that a stop waits for, and refuses new ones meanwhile."""

    def __init__(self) -> None:
        self.num_running = 0
        self.is_stopping = False
        self._refuses = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def begin(self, *, refuses: bool) -> None:
        """From now on connections end with their answer.

        `refuses`: new requests get 503; else they are served as long as any come.
        """
        self.is_stopping, self._refuses = True, refuses

    async def wait(self, limit_s: float) -> bool:
        """Wait for the running requests; returns whether all of them ended within the limit."""
        if self._is_empty.is_set():
            return True
        try:
            bound_s = limit_s if math.isfinite(limit_s) else None
            await asyncio.wait_for(self._is_empty.wait(), bound_s)
        except TimeoutError:
            return False
        return True

    async def mark(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Once the daemon stops, an answer closes its connection, and a refusal says how long."""
        if not self.is_stopping:
            return
        response.force_close()
        response.headers["Connection"] = "close"
        if response.status >= web.HTTPServiceUnavailable.status_code:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises Busy for a request that comes too late."""
        if self._refuses:
            raise Busy(STOPPING)
        if request.method in NOT_AWAITED_METHODS or request.path in NOT_AWAITED_PATHS:
            return await handler(request)
        self.num_running += 1
        self._is_empty.clear()
        try:
            return await handler(request)
        finally:
            self.num_running -= 1
            if not self.num_running:
                self._is_empty.set()
