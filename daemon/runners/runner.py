"""What the front asks of a runner, whatever stands behind it: a process, or a fake in tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from ..protocol import Delta, Embed, Embedded, Load, Ready, Stats, Submit


class Runner(Protocol):
    """A loaded model that takes requests."""

    ready: Ready
    stats: Stats
    is_alive: bool

    def submit(self, request: Submit) -> AsyncGenerator[Delta, None]:
        """The deltas of one request; leaving the loop early frees its slot.

        `request.id` is replaced by a fresh one. Raises BadRequest and RunnerDied.
        """
        ...

    async def embed(self, request: Embed) -> Embedded:
        """The vectors of one request, under a fresh id. Raises BadRequest and RunnerDied."""
        ...

    async def stop(self) -> None:
        """End it; any number of callers may wait for that."""
        ...


StartRunner = Callable[[Load], Awaitable[Runner]]
"""Gives a runner with its model loaded. Raises LoadFailed."""
