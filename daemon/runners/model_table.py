"""Which models are loaded, and when does each of them leave (CONTRACT 5.2)?"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator

from ..protocol import Stats
from .loaded_model import LoadedModel, PoolKey, RunnerSpec, can_serve
from .pool_counters import PoolCounters
from .stats_sum import add_stats

log = logging.getLogger(__name__)


class ModelTable:
    """The loaded models. One without leases leaves when its stay is over."""

    def __init__(self, counters: PoolCounters) -> None:
        self._models: dict[PoolKey, LoadedModel] = {}
        self._counters = counters
        self._dismissals: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[LoadedModel]:
        """All of them, those that are about to leave too."""
        return iter(list(self._models.values()))

    def add(self, loaded: LoadedModel) -> None:
        """A model that has come up."""
        self._models[loaded.spec.key] = loaded

    def at(self, key: PoolKey) -> LoadedModel | None:
        """What is loaded there, whether or not it serves anybody."""
        return self._models.get(key)

    def find(self, spec: RunnerSpec) -> LoadedModel | None:
        """What serves such a request and stays."""
        loaded = self._models.get(spec.key)
        if loaded is None or loaded.is_leaving or not loaded.runner.is_alive:
            return None
        return loaded if can_serve(loaded.load, spec.load, loaded.spec.load) else None

    def stats_by_model(self) -> dict[str, Stats]:
        """The sums of all runners of a model since the daemon started, those that are gone too."""
        sums = dict(self._counters.past)
        for loaded in self:
            name = loaded.spec.name
            sums[name] = add_stats(sums.get(name), loaded.runner.stats)
        return sums

    def release(self, loaded: LoadedModel) -> None:
        """End a lease; with the last one the stay begins anew."""
        loaded.users -= 1
        self._start_clock(loaded)

    def let_go(self, loaded: LoadedModel) -> None:
        """Unload a model as soon as it is idle."""
        loaded.keep_alive_s = 0.0
        self._start_clock(loaded)

    async def dismiss(self, loaded: LoadedModel) -> None:
        """Wait until a model has no leases, then end its runner."""
        loaded.is_leaving = True
        try:
            await loaded.idle.wait()
        except asyncio.CancelledError:
            loaded.is_leaving = False
            raise
        loaded.stop_clock()
        if not loaded.is_ended:
            loaded.is_ended = True
            self._counters.ended(loaded.spec.name, has_died=not loaded.runner.is_alive)
        await loaded.runner.stop()
        if self._models.get(loaded.spec.key) is loaded:
            del self._models[loaded.spec.key]
            self._counters.keep(loaded.spec.name, loaded.runner.stats)
            log.info("unloaded %s", loaded.spec.name)

    async def await_leaving(self) -> bool:
        """Wait for models that are unloaded or have died, whose memory is about to be free.

        Returns whether there were any.
        """
        leaving = [
            loaded
            for loaded in self
            if not loaded.runner.is_alive or (loaded.is_leaving and not loaded.users)
        ]
        for loaded in leaving:
            await self.dismiss(loaded)
        return bool(leaving)

    async def close(self) -> None:
        """End all runners, busy or not."""
        loaded_models = list(self)
        self._models.clear()
        for task in self._dismissals:
            task.cancel()
        await asyncio.gather(*self._dismissals, return_exceptions=True)
        for loaded in loaded_models:
            loaded.stop_clock()
        await asyncio.gather(*(loaded.runner.stop() for loaded in loaded_models))

    def _start_clock(self, loaded: LoadedModel) -> None:
        """Let a model without leases expire after its stay."""
        if loaded.users:
            return
        loaded.stop_clock()
        loaded.idle_since_s = time.monotonic()
        loaded.idle.set()
        stay_s = loaded.keep_alive_s if loaded.runner.is_alive else 0.0
        if stay_s <= 0:
            self._expire(loaded)
        elif math.isfinite(stay_s):
            loaded.timer = asyncio.get_running_loop().call_later(stay_s, self._expire, loaded)

    def _expire(self, loaded: LoadedModel) -> None:
        task = asyncio.create_task(self.dismiss(loaded))
        self._dismissals.add(task)
        task.add_done_callback(self._dismissals.discard)
