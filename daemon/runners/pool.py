"""Which model is loaded for a request, and which are unloaded for it (CONTRACT 5)?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ..errors import Busy, DoesNotFit, LoadFailed, RunnerError
from ..protocol import Stats
from .devices import ReadMachine, read_host
from .loaded_model import (
    LoadedModel,
    PoolKey,
    RunnerSpec,
    eviction_order,
    machine_beside,
    machine_without,
)
from .machine import HOST, Machine
from .model_table import ModelTable
from .plan import LoadPlan, gives_up_little
from .pool_counters import PoolCounters
from .runner import Runner, StartRunner
from .turnstile import WAITED_TOO_LONG

AUTO_MAX_LOADED = 3  # models; OLLAMA_MAX_LOADED_MODELS' default (CONTRACT 4)
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


def is_out_of_memory(error: RunnerError) -> bool:
    """Whether a load or a step failed because memory is short."""
    text = str(error).lower()
    return any(sign in text for sign in NO_MEMORY)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many models may be loaded and wait."""

    max_loaded: int = AUTO_MAX_LOADED  # models
    max_queue: int = 512  # requests that wait for a load or a slot; OLLAMA_MAX_QUEUE (CONTRACT 4)
    queue_s: float = math.inf  # for which a request may wait until its load begins
    alone_s: float = 10.0  # for which other loads wait for one; then they are planned beside it


@dataclass(slots=True, eq=False)
class StartedLoad:
    """A runner that is being started by this plan."""

    spec: RunnerSpec
    plan: LoadPlan
    task: asyncio.Task[LoadedModel]
    is_unwanted: bool = False  # whether its model was unloaded meanwhile

    async def wait(self, timeout_s: float | None = None) -> None:
        """Until it is over, in one way or the other, or until the time is."""
        await asyncio.wait({self.task}, timeout=timeout_s)


class RunnerPool:
    """The runners of this daemon. A lease on a loaded model never waits.

    Loads are planned one at a time, and the next one waits until this one is over: then its memory
    is measured. A load that takes long, for its size, its disk or a fault, lets the others go on;
    what its plan takes is theirs no more.
    """

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
        self._loading = asyncio.Lock()
        self._started: dict[PoolKey, StartedLoad] = {}
        self._num_queued = 0
        self.counters = PoolCounters()
        self._models = ModelTable(self.counters)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def num_queued(self) -> int:
        """Requests that wait for a load."""
        return self._num_queued

    @property
    def loaded_models(self) -> list[LoadedModel]:
        """Loaded models, the one that stays longest first."""
        alive = (model for model in self._models if model.runner.is_alive)
        return sorted(alive, key=lambda model: -model.expires_in_s)

    @property
    def stats_by_model(self) -> dict[str, Stats]:
        """The sums of all runners of a model since the daemon started, those that are gone too."""
        return self._models.stats_by_model()

    def warnings(self, runner: Runner) -> tuple[str, ...]:
        """What clients of this runner are told; nothing of one that is gone."""
        matching = (model.warnings for model in self._models if model.runner is runner)
        return next(matching, ())

    async def read_empty_machine(self) -> Machine:
        """The machine as it would be now if no model were loaded."""
        machine = await self._read_machine()
        return machine_without(machine_beside(machine, self._models), self._models)

    @contextlib.asynccontextmanager
    async def lease(self, spec: RunnerSpec, keep_alive_s: float | None) -> AsyncIterator[Runner]:
        """A runner for as long as the block lasts; the stay of its model starts anew after it.

        An error in the block that says that memory is short unloads all models as soon as they are
        idle (CONTRACT 5.3). Raises Busy, LoadFailed, and NotFound for a model that was deleted
        meanwhile.
        """
        if loaded := self._models.find(spec):
            if loaded.has_no_slot:
                self._check_queue()
            loaded.claim()
        else:
            loaded = await self._queue(spec)
        if keep_alive_s is not None:
            loaded.keep_alive_s = keep_alive_s
        try:
            yield loaded.runner
        except RunnerError as error:
            if is_out_of_memory(error):
                for other in self._models:
                    self._models.let_go(other)
            raise
        finally:
            self._models.release(loaded)

    def adopt(self, *, keep_alive_s: float, max_queue: int) -> None:
        """Settings that may change: both count for the requests from now on."""
        self._keep_alive_s = keep_alive_s
        self._limits = replace(self._limits, max_queue=max_queue)

    async def unload(self, model: str) -> None:
        """Let a model (by blob path) go when its requests are done, those included for which it is
        being loaded; a no-op if it is not loaded."""
        for started in self._started.values():
            started.is_unwanted |= started.spec.load.model == model
        for loaded in self._models:
            if loaded.load.model == model:
                self._models.let_go(loaded)

    async def close(self) -> None:
        """End all loads and all runners, busy or not."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._models.close()

    async def _queue(self, spec: RunnerSpec) -> LoadedModel:
        """Load in a task of its own. Once it has begun, it goes on when the client disconnects."""
        self._check_queue()
        self._num_queued += 1
        begun = asyncio.Event()
        task = self._spawn(self._load(spec, begun))
        timer = self._give_up_later(task, begun)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if timer and not begun.is_set() and task.cancelled():
                raise Busy(WAITED_TOO_LONG.format(self._limits.queue_s)) from None
            if not begun.is_set():
                task.cancel()
            task.add_done_callback(self._abandon)
            raise
        finally:
            self._num_queued -= 1
            if timer:
                timer.cancel()

    def _check_queue(self) -> None:
        """Raises Busy for a request that would wait behind too many others."""
        num_waiting = self._num_queued + sum(model.num_waiting for model in self._models)
        if num_waiting >= self._limits.max_queue:
            raise Busy(QUEUE_FULL)

    def _give_up_later(
        self, task: asyncio.Task[LoadedModel], begun: asyncio.Event
    ) -> asyncio.TimerHandle | None:
        """End a load that has not begun when its time is over."""
        if not math.isfinite(self._limits.queue_s):
            return None

        def give_up() -> None:
            if not begun.is_set():
                task.cancel()

        return asyncio.get_running_loop().call_later(self._limits.queue_s, give_up)

    async def _load(self, spec: RunnerSpec, begun: asyncio.Event) -> LoadedModel:
        """A loaded model with a lease for the caller. The lock is fair: nobody waits for ever."""
        try:
            return await self._load_planned(spec, begun)
        except DoesNotFit:
            self.counters.refused(spec.name)
            raise
        except LoadFailed:
            self.counters.failed(spec.name)
            raise

    async def _load_planned(self, spec: RunnerSpec, begun: asyncio.Event) -> LoadedModel:
        """As `_load`. Where memory is short in spite of the plan, there is a second try."""
        failed: tuple[LoadPlan, LoadFailed] | None = None
        while True:
            async with self._loading:
                if loaded := self._models.find(spec):
                    loaded.claim()
                    return loaded
                others = self._started.get(spec.key)
                if not others:
                    plan = await (self._plan_again(spec, *failed) if failed else self._plan(spec))
                    begun.set()
                    own = self._start_load(spec, plan)
                    await own.wait(self._limits.alone_s)
            if others:
                await others.wait()
                if loaded := self._models.find(spec):
                    loaded.claim()  # before a plan that waits for this load can unload it
                    return loaded
                continue
            try:
                return await own.task
            except LoadFailed as error:
                if failed or not is_out_of_memory(error):
                    raise
                failed = plan, error

    async def _plan(self, spec: RunnerSpec) -> LoadPlan:
        """A plan for which there is room, others being unloaded for it. Raises DoesNotFit."""
        machine = await self._read_machine()
        await self._refuse_hopeless(spec, machine)
        if old := self._models.at(spec.key):
            await self._models.dismiss(old)
        return await self._make_room(spec, None if old else machine)

    def _start_load(self, spec: RunnerSpec, plan: LoadPlan) -> StartedLoad:
        """Load by this plan, in a task of its own, which gives a model with a lease."""
        self._log_plan(spec, plan)
        started = StartedLoad(spec, plan, self._spawn(self._load_model(spec, plan)))
        self._started[spec.key] = started
        return started

    async def _load_model(self, spec: RunnerSpec, plan: LoadPlan) -> LoadedModel:
        start_s = time.monotonic()
        try:
            runner = await self._start(plan.load)
        finally:
            started = self._started.pop(spec.key)
        took_s = time.monotonic() - start_s
        self.counters.loaded(spec.name, took_s)
        log.info("loaded %s in %.2f s", spec.name, took_s)
        keep_alive_s = 0.0 if started.is_unwanted else self._keep_alive_s
        loaded = LoadedModel(spec, plan, runner, keep_alive_s)
        for sentence in loaded.warnings:
            log.warning("%s: %s", spec.name, sentence)
        self._models.add(loaded)
        spec.learn(plan, runner.ready)
        loaded.claim()
        return loaded

    async def _refuse_hopeless(self, spec: RunnerSpec, machine: Machine) -> None:
        """Raises DoesNotFit for what has no room even without other models, of which none is
        unloaded then; what other programs use is not free. Models that are being loaded have taken
        an unknown part of their memory, so nothing is hopeless beside them."""
        if (models := list(self._models)) and not self._started:
            empty = machine_without(machine_beside(machine, models), models)
            more = dict.fromkeys((HOST, *(gpu.name for gpu in empty.gpus)), UNMEASURED_BYTES)
            await _compute(spec, partial(_refuse, spec, empty, empty.after_freeing(more)))

    async def _make_room(self, spec: RunnerSpec, machine: Machine | None = None) -> LoadPlan:
        """A plan for which there is room; others are unloaded as far as that makes it better.

        `machine`: as it is now, if that is known. Raises DoesNotFit if there is no room even when
        nothing else is loaded. A model that is being loaded is waited for, since only then can it
        be unloaded.
        """
        while True:
            if await self._models.await_leaving() or machine is None:
                machine = await self._read_machine()
            others = eviction_order(self._models)
            started = list(self._started.values())
            if len(others) + len(started) < self._limits.max_loaded:
                left = _machine_less(machine_beside(machine, others), started)
                decide = partial(_plan_beside, spec, left, others, is_alone=not started)
                if plan := await _compute(spec, decide):
                    return plan
            machine = None
            if started:
                await asyncio.wait({s.task for s in started}, return_when=asyncio.FIRST_COMPLETED)
                continue
            self.counters.evicted(others[0].spec.name, is_busy=others[0].users > 0)
            await self._models.dismiss(others[0])

    async def _plan_again(self, spec: RunnerSpec, failed: LoadPlan, error: LoadFailed) -> LoadPlan:
        """A plan after all others are unloaded, or, if there are none, for less memory.

        Raises `error` if that is the same plan.
        """
        others = list(self._models)
        if others:
            log.warning("%s; %d other models are unloaded for it", error, len(others))
            for other in others:
                await self._models.dismiss(other)
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
            self._models.release(task.result())

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


def _machine_less(machine: Machine, started: Iterable[StartedLoad]) -> Machine:
    """The machine without what these loads are about to take."""
    taken: dict[str, int] = {}
    for each in started:
        for device, part in each.plan.by_device().items():
            taken[device] = taken.get(device, 0) - part.total_bytes
    return machine.after_freeing(taken)


def _plan_beside(
    spec: RunnerSpec, machine: Machine, others: list[LoadedModel], *, is_alone: bool
) -> LoadPlan | None:
    """A plan beside these models; None: it would be clearly better if they were unloaded.

    `is_alone`: nothing else is being loaded. Raises DoesNotFit if, beside this, there are no
    others, and it does not fit.
    """
    if not others and is_alone:
        return spec.plan(machine)
    try:
        plan = spec.plan(machine)
        best = spec.plan(machine_without(machine, others))
    except DoesNotFit:
        return None
    return plan if gives_up_little(plan, best) else None
