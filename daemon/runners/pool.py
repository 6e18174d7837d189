"""Which models are loaded, and which are unloaded for others (CONTRACT 5)?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from ...quant.memory import MemoryEstimate, PartBytes
from ..errors import Busy, DoesNotFit, LoadFailed, RunnerError
from ..protocol import Load, Ready
from .devices import ReadMachine, read_host
from .machine import HOST, Machine
from .plan import LoadPlan, gives_up_little
from .pool_counters import PoolCounters
from .runner import Runner, StartRunner

AUTO_MAX_LOADED = 3  # models; OLLAMA_MAX_LOADED_MODELS' default (CONTRACT 4)
# Fields of a Load that follow from others or from the memory that was free; see `can_serve`.
FOLLOWING = ("num_ctx", "batch", "cells", "slots", "profile", "tensor_split", "host_experts")
# How llama.cpp and its backends say that memory is short, in lower case (CONTRACT 5.3).
NO_MEMORY = (
    *("out of memory", "failed to allocate", "unable to allocate", "bad_alloc"),
    *("cudamalloc failed", "llama_decode returned -2", "unable to create a context"),
)
SECOND_TRY_DIVISOR = 10  # a second plan leaves one part in so many of the free memory
# Memory of a device that all models together may give back beside what is measured of them: the
# context of a GPU's driver, the interpreters of runners.
UNMEASURED_BYTES = 1 << 30
QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"

log = logging.getLogger(__name__)

T = TypeVar("T")
# Path of the model blob, whether it is loaded for embeddings, and the paths of its adapters.
PoolKey = tuple[str, bool, tuple[str, ...]]
MakePlan = Callable[[Machine], LoadPlan]
"""How a model is loaded on a machine as it is then. Raises DoesNotFit."""


def _learn_nothing(_plan: LoadPlan, _ready: Ready) -> None:
    """For specs whose predictions are not corrected."""


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """The runner that a request needs."""

    name: str
    digest: str
    load: Load  # the least that serves the request
    make_plan: MakePlan | None = None  # None: `load` is the plan
    learn: Callable[[LoadPlan, Ready], None] = _learn_nothing  # from what a load has really taken

    @property
    def key(self) -> PoolKey:
        """Weights may be loaded for text, for embeddings, and with each set of adapters."""
        return self.load.model, self.load.embedding, self.load.adapters

    def plan(self, machine: Machine) -> LoadPlan:
        """The plan for this machine. Raises DoesNotFit."""
        if self.make_plan:
            return self.make_plan(machine)
        return LoadPlan(self.load, MemoryEstimate(PartBytes()))


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A loaded model: its runner, its leases, and when it is unloaded."""

    spec: RunnerSpec  # of the request that loaded it
    plan: LoadPlan  # by which it was loaded
    runner: Runner
    keep_alive_s: float
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    idle_since_s: float = 0.0
    is_leaving: bool = False
    timer: asyncio.TimerHandle | None = None

    @property
    def load(self) -> Load:
        """How it is loaded."""
        return self.plan.load

    @property
    def device_bytes(self) -> Mapping[str, int]:
        """What it takes on each device: as measured, or as planned where nothing is measured.

        A runner may know no more than what is on the host and what is not.
        """
        ready = self.runner.ready
        planned = {name: part.total_bytes for name, part in self.plan.by_device().items()}
        if not ready.devices and ready.size_bytes:
            return planned | {HOST: ready.size_bytes - ready.size_vram_bytes}
        return planned | {device.device: device.total_bytes for device in ready.devices}

    @property
    def mapped_bytes(self) -> int:
        """Weights that lie on the host in pages of their file, which count as free there."""
        if self.load.use_mmap is False:
            return 0
        measured = [d.weights_bytes for d in self.runner.ready.devices if d.device == HOST]
        return sum(measured) if measured else self.plan.need.host.weights_bytes

    @property
    def expires_in_s(self) -> float:
        """Seconds until it is unloaded; infinite for "forever"."""
        if self.users:
            return self.keep_alive_s
        return self.idle_since_s + self.keep_alive_s - time.monotonic()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What each client of this model is told, a sentence each."""
        planned, refusal = self.plan.warnings, self.runner.ready.refusal
        return (*planned, refusal) if refusal else planned

    def claim(self) -> None:
        """Take a lease; the model does not expire meanwhile."""
        self.users += 1
        self.idle.clear()
        self.stop_clock()

    def stop_clock(self) -> None:
        if self.timer:
            self.timer.cancel()


def can_serve(loaded: Load, wish: Load, first_wish: Load | None = None) -> bool:
    """Whether a loaded model serves a request (CONTRACT 5.1).

    It does with a larger context or batch than the request asks for: two clients that take turns
    would otherwise reload the model each time. The number of slots, and the files that go with it,
    follow from the context. num_gpu -1 accepts any number of layers. What the plan gave up of
    `first_wish`, for which the model was loaded, it would give up of the same wish again.
    """
    if loaded.num_ctx < wish.num_ctx or loaded.batch < wish.batch:
        return False
    same = {name: getattr(loaded, name) for name in FOLLOWING}
    if wish.gpu_layers == -1:
        same["gpu_layers"] = loaded.gpu_layers
    if wish.main_gpu is None:
        same["main_gpu"] = loaded.main_gpu
    if first_wish:
        same |= {
            name: getattr(loaded, name)
            for name in wish.__struct_fields__
            if getattr(first_wish, name) == getattr(wish, name) and name not in FOLLOWING
        }
    return loaded == msgspec.structs.replace(wish, **same)


def is_out_of_memory(error: RunnerError) -> bool:
    """Whether a load or a step failed because memory is short."""
    text = str(error).lower()
    return any(sign in text for sign in NO_MEMORY)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many models may be loaded and wait."""

    max_loaded: int = AUTO_MAX_LOADED  # models
    max_queue: int = 512  # requests that wait for a load; OLLAMA_MAX_QUEUE (CONTRACT 4)


def eviction_order(loaded_models: Iterable[LoadedModel]) -> list[LoadedModel]:
    """In which order models are unloaded for another one.

    Idle models go before busy ones, then the one with the shortest stay.
    """
    return sorted(loaded_models, key=lambda m: (m.users > 0, m.keep_alive_s, m.idle_since_s))


def machine_beside(machine: Machine, loaded_models: Iterable[LoadedModel]) -> Machine:
    """The machine with what loaded models leave: the pages of their mapped weights count as free
    there, and all models together take no more than its memory, which a setting may limit."""
    models, integrated = list(loaded_models), [g.name for g in machine.gpus if g.is_integrated]
    taken = sum(model.device_bytes.get(name, 0) for model in models for name in (HOST, *integrated))
    beside = machine.after_freeing({HOST: -sum(model.mapped_bytes for model in models)})
    return replace(beside, available_bytes=min(beside.free_bytes, machine.memory_bytes - taken))


def machine_without(machine: Machine, loaded_models: Iterable[LoadedModel]) -> Machine:
    """The machine as it would be if these models, which `machine_beside` counts, were unloaded."""
    freed: dict[str, int] = {}
    for model in loaded_models:
        for device, num_bytes in model.device_bytes.items():
            freed[device] = freed.get(device, 0) + num_bytes
    return machine.after_freeing(freed)


class RunnerPool:
    """The runners of this daemon. Loads go one at a time; a lease on a loaded model never waits."""

    def __init__(
        self,
        start: StartRunner,
        limits: PoolLimits,
        *,
        keep_alive_s: float,
        read_machine: ReadMachine = read_host,
    ) -> None:
        self._start = start
        self._limits = limits
        self._keep_alive_s = keep_alive_s
        self._read_machine = read_machine
        self._loaded_models: dict[PoolKey, LoadedModel] = {}
        self._loading = asyncio.Lock()
        self._num_queued = 0
        self._starting = ""  # path of the model that a runner is being started for
        self._is_unwanted = False  # whether that model was unloaded meanwhile
        self.counters = PoolCounters()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def num_queued(self) -> int:
        """Requests that wait for a load."""
        return self._num_queued

    @property
    def loaded_models(self) -> list[LoadedModel]:
        """Loaded models, the one that stays longest first."""
        alive = (model for model in self._loaded_models.values() if model.runner.is_alive)
        return sorted(alive, key=lambda model: -model.expires_in_s)

    def warnings(self, runner: Runner) -> tuple[str, ...]:
        """What clients of this runner are told; nothing of one that is gone."""
        models = self._loaded_models.values()
        return next((model.warnings for model in models if model.runner is runner), ())

    async def read_empty_machine(self) -> Machine:
        """The machine as it would be now if no model were loaded."""
        models = list(self._loaded_models.values())
        return machine_without(machine_beside(await self._read_machine(), models), models)

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
        """Let a model (by blob path) go when its requests are done, those included for which it is
        being loaded; a no-op if it is not loaded."""
        self._is_unwanted |= model == self._starting
        for loaded in self._loaded_models.values():
            if loaded.load.model == model:
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
        return loaded if can_serve(loaded.load, spec.load, loaded.spec.load) else None

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
        """A loaded model with a lease for the caller. The lock is fair: nobody waits for ever."""
        async with self._loading:
            try:
                loaded = self._find(spec) or await self._load_model(spec)
            except DoesNotFit:
                self.counters.refusals[spec.name] += 1
                raise
            loaded.claim()
            return loaded

    async def _load_model(self, spec: RunnerSpec) -> LoadedModel:
        machine = await self._read_machine()
        await self._refuse_hopeless(spec, machine)
        if old := self._loaded_models.get(spec.key):
            await self._dismiss(old)
        plan = await self._make_room(spec, None if old else machine)
        start_s = time.monotonic()
        self._starting, self._is_unwanted = spec.load.model, False
        try:
            runner, plan = await self._start_planned(spec, plan)
        finally:
            self._starting = ""
        took_s = time.monotonic() - start_s
        self.counters.loaded(spec.name, took_s)
        log.info("loaded %s in %.2f s", spec.name, took_s)
        loaded = LoadedModel(spec, plan, runner, 0.0 if self._is_unwanted else self._keep_alive_s)
        for sentence in loaded.warnings:
            log.warning("%s: %s", spec.name, sentence)
        self._loaded_models[spec.key] = loaded
        spec.learn(plan, runner.ready)
        return loaded

    async def _refuse_hopeless(self, spec: RunnerSpec, machine: Machine) -> None:
        """Raises DoesNotFit for what has no room even without other models, of which none is
        unloaded then; what other programs use is not free."""
        if models := list(self._loaded_models.values()):
            empty = machine_without(machine_beside(machine, models), models)
            more = dict.fromkeys((HOST, *(gpu.name for gpu in empty.gpus)), UNMEASURED_BYTES)
            await _compute(spec, partial(_refuse, spec, empty, empty.after_freeing(more)))

    async def _make_room(self, spec: RunnerSpec, machine: Machine | None = None) -> LoadPlan:
        """A plan for which there is room; others are unloaded as far as that makes it better.

        `machine`: as it is now, if that is known. Raises DoesNotFit if there is no room even when
        nothing else is loaded.
        """
        while True:
            if await self._await_leaving() or machine is None:
                machine = await self._read_machine()
            others = eviction_order(self._loaded_models.values())
            if len(others) < self._limits.max_loaded:
                decide = partial(_plan_beside, spec, machine_beside(machine, others), others)
                if plan := await _compute(spec, decide):
                    return plan
            self.counters.evicted(others[0].spec.name, is_busy=others[0].users > 0)
            await self._dismiss(others[0])
            machine = None

    async def _await_leaving(self) -> bool:
        """Wait for models that are unloaded or have died, whose memory is about to be free.

        Returns whether there were any.
        """
        leaving = [
            loaded
            for loaded in self._loaded_models.values()
            if not loaded.runner.is_alive or (loaded.is_leaving and not loaded.users)
        ]
        for loaded in leaving:
            await self._dismiss(loaded)
        return bool(leaving)

    async def _start_planned(self, spec: RunnerSpec, plan: LoadPlan) -> tuple[Runner, LoadPlan]:
        """A new runner; where memory is short for it in spite of the plan, it gets a second try."""
        self._log_plan(spec, plan)
        try:
            return await self._start(plan.load), plan
        except LoadFailed as error:
            if not is_out_of_memory(error):
                raise
            plan = await self._plan_again(spec, plan, error)
        self._log_plan(spec, plan)
        return await self._start(plan.load), plan

    async def _plan_again(self, spec: RunnerSpec, failed: LoadPlan, error: LoadFailed) -> LoadPlan:
        """A plan after all others are unloaded, or, if there are none, for less memory.

        Raises `error` if that is the same plan.
        """
        others = list(self._loaded_models.values())
        if others:
            log.warning("%s; %d other models are unloaded for it", error, len(others))
            for other in others:
                await self._dismiss(other)
            return await self._make_room(spec)
        smaller = (await self._read_machine()).with_less(1 / SECOND_TRY_DIVISOR)
        with contextlib.suppress(DoesNotFit):
            plan = await _compute(spec, lambda: spec.plan(smaller))
            if plan.load != failed.load:
                log.warning("%s; it is planned again for less memory", error)
                return plan
        raise error

    def _log_plan(self, spec: RunnerSpec, plan: LoadPlan) -> None:
        """One line: what was planned, and what was given up."""
        log.info("%s: %s", spec.name, "; ".join((plan.summary, *plan.concessions)))

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


async def _compute(spec: RunnerSpec, decide: Callable[[], T]) -> T:
    """The decision, taken in a thread where a plan is computed, which takes tens of ms."""
    return await asyncio.to_thread(decide) if spec.make_plan else decide()


def _refuse(spec: RunnerSpec, machine: Machine, best: Machine) -> None:
    """Raises DoesNotFit, with the numbers of `machine`, for what has no room on `best`."""
    try:
        spec.plan(best)
    except DoesNotFit:
        spec.plan(machine)
        raise


def _plan_beside(spec: RunnerSpec, machine: Machine, others: list[LoadedModel]) -> LoadPlan | None:
    """A plan beside these models; None: it would be clearly better if they were unloaded.

    Raises DoesNotFit if there are none, and it does not fit.
    """
    if not others:
        return spec.plan(machine)
    try:
        plan = spec.plan(machine)
        best = spec.plan(machine_without(machine, others))
    except DoesNotFit:
        return None
    return plan if gives_up_little(plan, best) else None
