"""Which requests has a runner got, and which ones wait for it here?

What waits in the front costs the runner no memory, and it is gone at once when its client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator

from ..errors import Busy

WAITED_TOO_LONG = "server busy, please try again.  the request has waited for {:g} s"


class Turnstile:
    """Lets a bounded number of requests through at a time, first come, first served."""

    def __init__(self, width: int, limit_s: float = math.inf) -> None:
        """`limit_s`: how long a request may wait."""
        self._num_free = width
        self._limit_s = limit_s
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def num_waiting(self) -> int:
        return sum(not future.done() for future in self._waiting)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """A place for as long as the block lasts. Raises Busy after too long a wait."""
        await self._enter()
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.step_aside()

    async def _enter(self) -> None:
        if self._num_free > 0 and not self.num_waiting:
            self._num_free -= 1
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(self._limit_s if math.isfinite(self._limit_s) else None):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self.add(1)  # its turn came while it left
            future.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)
            if isinstance(error, TimeoutError):
                raise Busy(WAITED_TOO_LONG.format(self._limit_s)) from None
            raise

    def add(self, places: int) -> None:
        """That many more places are free, or fewer if it is negative."""
        self._num_free += places
        while self._num_free > 0 and self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                self._num_free -= 1


class Turn:
    """The place of one request."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile
        self._has_place = True

    def step_aside(self) -> None:
        """Leave the place to others; a no-op for who has left it."""
        if self._has_place:
            self._has_place = False
            self._turnstile.add(1)

    def come_back(self) -> None:
        """Take a place again, also where none is free."""
        if not self._has_place:
            self._has_place = True
            self._turnstile.add(-1)
