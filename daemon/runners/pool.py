"""Which models are loaded, and which are unloaded for others (CONTRACT 5)?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from ..errors import Busy, LoadFailed, RunnerError
from ..protocol import Load
from .runner import Runner, StartRunner

AUTO_MAX_LOADED = 3  # models; OLLAMA_MAX_LOADED_MODELS' default (CONTRACT 4)
# Fields of a Load in which a loaded model and a request may differ; see `can_serve`.
FOLLOWING = ("num_ctx", "batch", "cells", "slots", "profile")
# How llama.cpp and its backends say that memory is short, in lower case (CONTRACT 5.3).
NO_MEMORY = (
    *("out of memory", "failed to allocate", "unable to allocate", "bad_alloc"),
    *("cudamalloc failed", "llama_decode returned -2", "unable to create a context"),
)
QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"

log = logging.getLogger(__name__)

T = TypeVar("T")
# Path of the model blob, whether it is loaded for embeddings, and the paths of its adapters.
PoolKey = tuple[str, bool, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """The runner that a request needs."""

    name: str
    digest: str
    load: Load
    need_bytes: int = 0  # of memory, as planned

    @property
    def key(self) -> PoolKey:
        """Weights may be loaded for text, for embeddings, and with each set of adapters."""
        return self.load.model, self.load.embedding, self.load.adapters


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A loaded model: its runner, its leases, and when it is unloaded."""

    spec: RunnerSpec  # of the request that loaded it
    runner: Runner
    keep_alive_s: float
    host_bytes: int = 0  # of memory that is not a GPU's
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
        """Take a lease; the model does not expire meanwhile."""
        self.users += 1
        self.idle.clear()
        self.stop_clock()

    def stop_clock(self) -> None:
        if self.timer:
            self.timer.cancel()


def can_serve(loaded: Load, spec: Load) -> bool:
    """Whether a loaded model serves a request (CONTRACT 5.1).

    It does with a larger context or batch than the request asks for: two clients that take turns
    would otherwise reload the model each time. The number of slots, and the files that go with it,
    follow from the context. num_gpu -1 accepts any number of layers.
    """
    if loaded.num_ctx < spec.num_ctx or loaded.batch < spec.batch:
        return False
    same = {name: getattr(loaded, name) for name in FOLLOWING}
    if spec.gpu_layers == -1:
        same["gpu_layers"] = loaded.gpu_layers
    return loaded == msgspec.structs.replace(spec, **same)


def is_out_of_memory(error: RunnerError) -> bool:
    """Whether a load or a step failed because memory is short."""
    text = str(error).lower()
    return any(sign in text for sign in NO_MEMORY)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What all loaded models together may take."""

    max_loaded: int = AUTO_MAX_LOADED  # models
    memory_bytes: int = sys.maxsize  # of the host
    max_queue: int = 512  # requests that wait for a load; OLLAMA_MAX_QUEUE (CONTRACT 4)


def choose_victims(
    loaded_models: Iterable[LoadedModel], need_bytes: int, limits: PoolLimits
) -> list[LoadedModel]:
    """The models to unload before one of `need_bytes` is loaded, in this order.

    Idle models go before busy ones, then the one with the shortest stay. A model that exceeds the
    memory by itself is loaded alone.
    """
    staying = sorted(loaded_models, key=lambda m: (m.users > 0, m.keep_alive_s, m.idle_since_s))
    victims = []
    while staying and (
        len(staying) >= limits.max_loaded
        or sum(m.host_bytes for m in staying) + need_bytes > limits.memory_bytes
    ):
        victims.append(staying.pop(0))
    return victims


class RunnerPool:
    """The runners of this daemon. Loads go one at a time; a lease on a loaded model never waits."""

    def __init__(self, start: StartRunner, limits: PoolLimits, *, keep_alive_s: float) -> None:
        self._start = start
        self._limits = limits
        self._keep_alive_s = keep_alive_s
        self._loaded_models: dict[PoolKey, LoadedModel] = {}
        self._loading = asyncio.Lock()
        self._num_queued = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def loaded_models(self) -> list[LoadedModel]:
        """Loaded models, the one that stays longest first."""
        alive = (model for model in self._loaded_models.values() if model.runner.is_alive)
        return sorted(alive, key=lambda model: -model.expires_in_s)

    @contextlib.asynccontextmanager
    async def lease(self, spec: RunnerSpec, keep_alive_s: float | None) -> AsyncIterator[Runner]:
        """A runner for as long as the block lasts; the stay of its model starts anew after it.

        An error in the block that says that memory is short unloads all models as soon as they are
        idle (CONTRACT 5.3). Raises Busy and LoadFailed.
        """
        if loaded := self._find(spec):
            loaded.claim()
        else:
            loaded = await self._queue(spec)
        if keep_alive_s is not None:
            loaded.keep_alive_s = keep_alive_s
        try:
            yield loaded.runner
        except RunnerError as error:
            if is_out_of_memory(error):
                self._expire_all()
            raise
        finally:
            self._release(loaded)

    def adopt(self, *, keep_alive_s: float, max_queue: int) -> None:
        """Settings that may change: both count for the requests from now on."""
        self._keep_alive_s = keep_alive_s
        self._limits = replace(self._limits, max_queue=max_queue)

    async def unload(self, model: str) -> None:
        """Let a model (by blob path) go when its requests are done; a no-op if it is not loaded."""
        for loaded in self._loaded_models.values():
            if loaded.spec.load.model == model:
                loaded.keep_alive_s = 0.0
                self._start_clock(loaded)

    def _expire_all(self) -> None:
        for loaded in self._loaded_models.values():
            loaded.keep_alive_s = 0.0
            self._start_clock(loaded)

    async def close(self) -> None:
        """End all runners, busy or not."""
        loaded_models = list(self._loaded_models.values())
        self._loaded_models.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for loaded in loaded_models:
            loaded.stop_clock()
        await asyncio.gather(*(loaded.runner.stop() for loaded in loaded_models))

    def _find(self, spec: RunnerSpec) -> LoadedModel | None:
        loaded = self._loaded_models.get(spec.key)
        if loaded is None or loaded.is_leaving or not loaded.runner.is_alive:
            return None
        return loaded if can_serve(loaded.spec.load, spec.load) else None

    async def _queue(self, spec: RunnerSpec) -> LoadedModel:
        """Load in a task of its own, which goes on when the client disconnects."""
        if self._num_queued >= self._limits.max_queue:
            raise Busy(QUEUE_FULL)
        self._num_queued += 1
        task = self._spawn(self._load(spec))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise
        finally:
            self._num_queued -= 1

    async def _load(self, spec: RunnerSpec) -> LoadedModel:
        """A loaded model with a lease for the caller."""
        async with self._loading:
            loaded = self._find(spec) or await self._load_model(spec)
            loaded.claim()
            return loaded

    async def _load_model(self, spec: RunnerSpec) -> LoadedModel:
        if old := self._loaded_models.get(spec.key):
            await self._dismiss(old)
        models, need, limits = self._loaded_models, spec.need_bytes, self._limits
        while victims := choose_victims(models.values(), need, limits):
            await self._dismiss(victims[0])
        if need > limits.memory_bytes:
            log.warning(
                "%s needs about %d MiB, and models may take %d MiB of this machine's memory",
                *(spec.name, need >> 20, limits.memory_bytes >> 20),
            )
        start_s = time.monotonic()
        runner = await self._start_alone_if_need_be(spec.load)
        log.info("loaded %s in %.2f s", spec.name, time.monotonic() - start_s)
        ready = runner.ready
        if ready.refusal:
            log.warning("%s: %s", spec.name, ready.refusal)
        host_bytes = ready.size_bytes - ready.size_vram_bytes if ready.size_bytes else need
        models[spec.key] = loaded = LoadedModel(spec, runner, self._keep_alive_s, host_bytes)
        return loaded

    async def _start_alone_if_need_be(self, load: Load) -> Runner:
        """A new runner. Where memory is short for it, all others go, and it gets a second try."""
        try:
            return await self._start(load)
        except LoadFailed as error:
            others = list(self._loaded_models.values())
            if not others or not is_out_of_memory(error):
                raise
            log.warning("%s; %d other models are unloaded for it", error, len(others))
        for other in others:
            await self._dismiss(other)
        return await self._start(load)

    def _abandon(self, task: asyncio.Task[LoadedModel]) -> None:
        """The load is complete, but its client has disconnected."""
        if not task.cancelled() and not task.exception():
            self._release(task.result())

    def _release(self, loaded: LoadedModel) -> None:
        loaded.users -= 1
        self._start_clock(loaded)

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
        self._spawn(self._dismiss(loaded))

    async def _dismiss(self, loaded: LoadedModel) -> None:
        """Wait until a model has no leases, then end its runner."""
        loaded.is_leaving = True
        await loaded.idle.wait()
        loaded.stop_clock()
        await loaded.runner.stop()
        if self._loaded_models.get(loaded.spec.key) is loaded:
            del self._loaded_models[loaded.spec.key]
            log.info("unloaded %s", loaded.spec.name)

    def _spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
