"""Which models are loaded: who gets a runner, who waits, who is evicted (contract section 5)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from .child import Child
from .errors import Busy
from .protocol import Load

MAX_QUEUE = 512
AUTO_MAX_LOADED = 3
MAX_QUEUED = "server busy, please try again.  maximum pending requests exceeded"

log = logging.getLogger(__name__)

T = TypeVar("T")
Place = tuple[str, bool]  # path of the model blob, whether it is loaded for embeddings


@dataclass(slots=True, eq=False)
class Berth:
    """A loaded model: its runner, who uses it, and how long it stays."""

    name: str
    digest: str
    load: Load
    child: Child
    keep_alive_s: float
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    idle_since_s: float = 0.0
    is_leaving: bool = False
    timer: asyncio.TimerHandle | None = None

    @property
    def expires_in_s(self) -> float:
        """Seconds until it is unloaded; infinite for "forever"."""
        if self.users:
            return self.keep_alive_s
        return self.idle_since_s + self.keep_alive_s - time.monotonic()

    def claim(self) -> None:
        """One more user; the clock stops."""
        self.users += 1
        self.idle.clear()
        self.stop_clock()

    def stop_clock(self) -> None:
        if self.timer:
            self.timer.cancel()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs loaded."""

    name: str
    digest: str
    load: Load


def place_of(load: Load) -> Place:
    """Where its berth lies: a model may be there once for text and once for embeddings."""
    return load.model, load.embedding


def can_serve(loaded: Load, wanted: Load) -> bool:
    """Whether a loaded model fits a request; num_gpu -1 takes whatever is there."""
    if wanted.gpu_layers == -1:
        wanted = msgspec.structs.replace(wanted, gpu_layers=loaded.gpu_layers)
    return loaded == wanted


def choose_victim(berths: Iterable[Berth]) -> Berth | None:
    """Who goes when there are too many: idle before busy, then the one that would stay shortest."""
    return min(berths, key=lambda b: (b.users > 0, b.keep_alive_s, b.idle_since_s), default=None)


class Fleet:
    """The runners of this daemon. Loads go one at a time; a lease on a loaded model never waits."""

    def __init__(self, *, max_loaded: int, keep_alive_s: float) -> None:
        self._max_loaded = max_loaded or AUTO_MAX_LOADED
        self._keep_alive_s = keep_alive_s
        self._berths: dict[Place, Berth] = {}
        self._loading = asyncio.Lock()
        self._num_queued = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def berths(self) -> list[Berth]:
        """Loaded models, the one that stays longest first."""
        alive = [b for b in self._berths.values() if b.child.is_alive]
        return sorted(alive, key=lambda b: -b.expires_in_s)

    @contextlib.asynccontextmanager
    async def lease(self, wanted: Wanted, keep_alive_s: float | None) -> AsyncIterator[Child]:
        """A runner for as long as the block lasts; the stay of its model starts anew after it.

        Raises Busy and LoadFailed.
        """
        if berth := self._find(wanted):
            berth.claim()
        else:
            berth = await self._queue(wanted)
        if keep_alive_s is not None:
            berth.keep_alive_s = keep_alive_s
        try:
            yield berth.child
        finally:
            self._release(berth)

    async def unload(self, model: str) -> None:
        """Let a model (by blob path) go when its requests are done; a no-op if it is not loaded."""
        for berth in [berth for berth in self._berths.values() if berth.load.model == model]:
            berth.keep_alive_s = 0.0
            self._rest(berth)

    async def close(self) -> None:
        """End all runners, busy or not."""
        berths = list(self._berths.values())
        self._berths.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for berth in berths:
            berth.stop_clock()
        await asyncio.gather(*(berth.child.stop() for berth in berths))

    def _find(self, wanted: Wanted) -> Berth | None:
        berth = self._berths.get(place_of(wanted.load))
        if berth is None or berth.is_leaving or not berth.child.is_alive:
            return None
        return berth if can_serve(berth.load, wanted.load) else None

    async def _queue(self, wanted: Wanted) -> Berth:
        """Load in a task of its own: a client that leaves does not waste a load half done."""
        if self._num_queued >= MAX_QUEUE:
            raise Busy(MAX_QUEUED)
        self._num_queued += 1
        task = self._spawn(self._load(wanted))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise
        finally:
            self._num_queued -= 1

    async def _load(self, wanted: Wanted) -> Berth:
        """A berth that is claimed for the caller."""
        async with self._loading:
            berth = self._find(wanted) or await self._berth(wanted)
            berth.claim()
            return berth

    async def _berth(self, wanted: Wanted) -> Berth:
        if old := self._berths.get(place_of(wanted.load)):
            await self._dismiss(old)
        while len(self._berths) >= self._max_loaded:
            victim = choose_victim(self._berths.values())
            assert victim
            await self._dismiss(victim)
        start_s = time.monotonic()
        child = await Child.start(wanted.load)
        log.info("loaded %s in %.2f s", wanted.name, time.monotonic() - start_s)
        if child.ready.refusal:
            log.warning("%s: %s", wanted.name, child.ready.refusal)
        berth = Berth(wanted.name, wanted.digest, wanted.load, child, self._keep_alive_s)
        self._berths[place_of(wanted.load)] = berth
        return berth

    def _abandon(self, task: asyncio.Task[Berth]) -> None:
        """The load is done, but the client that asked for it has left."""
        if not task.cancelled() and not task.exception():
            self._release(task.result())

    def _release(self, berth: Berth) -> None:
        berth.users -= 1
        self._rest(berth)

    def _rest(self, berth: Berth) -> None:
        """Start the clock of a runner that nobody uses."""
        if berth.users:
            return
        berth.stop_clock()
        berth.idle_since_s = time.monotonic()
        berth.idle.set()
        if not berth.child.is_alive or berth.keep_alive_s <= 0:
            self._spawn(self._dismiss(berth))
        elif math.isfinite(berth.keep_alive_s):
            loop = asyncio.get_running_loop()
            berth.timer = loop.call_later(berth.keep_alive_s, self._expire, berth)

    def _expire(self, berth: Berth) -> None:
        self._spawn(self._dismiss(berth))

    async def _dismiss(self, berth: Berth) -> None:
        """Wait for the requests of a runner, then end it; its place is free once it is gone."""
        berth.is_leaving = True
        await berth.idle.wait()
        berth.stop_clock()
        await berth.child.stop()
        if self._berths.get(place_of(berth.load)) is berth:
            del self._berths[place_of(berth.load)]
            log.info("unloaded %s", berth.name)

    def _spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
