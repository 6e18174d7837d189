"""What is known of a loaded model, and which requests does it serve (CONTRACT 5.1)?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from ...quant.memory import MemoryEstimate, PartBytes
from ..protocol import Load, Ready
from .machine import HOST, Machine
from .plan import LoadPlan
from .runner import Runner

# Fields of a Load that follow from others or from the memory that was free; see `can_serve`.
FOLLOWING = (
    *("num_ctx", "batch", "cells", "slots", "profile", "tensor_split", "host_experts"),
    *("host_bytes", "adapts_threads"),
)

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
    is_ended: bool = False  # its runner was told to stop, or has died
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

    @property
    def num_waiting(self) -> int:
        """Requests without a slot."""
        return max(0, self.users - self.load.slots)

    @property
    def has_no_slot(self) -> bool:
        """Whether one more request would have to wait."""
        return self.users >= self.load.slots

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
