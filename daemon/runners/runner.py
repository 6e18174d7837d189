"""What a runner offers to the front: the interface of runner processes and of fakes in tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from ..protocol import Delta, Embed, Embedded, Load, Ready, Stats, Submit


class Runner(Protocol):
    """A loaded model that accepts requests."""

    ready: Ready
    stats: Stats
    is_alive: bool

    def submit(self, request: Submit) -> AsyncGenerator[Delta, None]:
        """The deltas of one request; closing the iterator early frees its slot.

        `request.id` is replaced by a unique one. Raises BadRequest and RunnerDied.
        """
        ...

    async def embed(self, request: Embed) -> Embedded:
        """The vectors of one request; as `submit`. Raises BadRequest and RunnerDied."""
        ...

    async def stop(self) -> None:
        """End the runner; any number of callers may await this."""
        ...


StartRunner = Callable[[Load], Awaitable[Runner]]
"""Starts a runner and loads its model. Raises LoadFailed, and NotFound if it was deleted."""
