"""How is a model loaded for a request? Pure functions of model, options, settings and machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import msgspec

from ...quant.gguf import Header
from ...quant.layers import num_layers
from ...quant.memory import MemoryEstimate, PartBytes, estimate_memory
from ..config import Settings
from ..errors import DoesNotFit
from ..options import Options
from ..protocol import Load
from .budget import budget_of
from .fit import FitProblem, LayerCount, LoadChoice, fit, is_comfortable
from .machine import HOST, Machine
from .model_info import ModelInfo
from .sentences import concessions_of, placement_warning, refusal_of, summary_of
from .wish import Wish, wish_of
from .wording import Estimate, LoadRequest, maps_weights, need_of, word_load

EXPERTS = "_exps"  # in the names of tensors that hold all experts of a layer (GUIDE 9.5)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a model is loaded, and what that is expected to take."""

    load: Load
    need: MemoryEstimate
    concessions: tuple[str, ...] = ()
    """What was given up to make it fit, in that order, a sentence each."""
    warnings: tuple[str, ...] = ()
    """What each client is told, such as that layers are on the CPU; a sentence each."""
    summary: str = ""
    """Slots, context, cache, devices and memory in one line."""
    gpus: tuple[str, ...] = ()
    """The names of the GPUs in `need`."""
    uncorrected: MemoryEstimate | None = None
    """`need` without what earlier loads have taught; None: they have taught nothing."""

    def by_device(self) -> dict[str, PartBytes]:
        """What is expected on each device, by its name."""
        return self._named(self.need)

    def predicted(self) -> dict[str, PartBytes]:
        """What the headers alone say of each device, by its name."""
        return self._named(self.uncorrected or self.need)

    def _named(self, need: MemoryEstimate) -> dict[str, PartBytes]:
        return {HOST: need.host, **dict(zip(self.gpus, need.gpus, strict=False))}


def plan_load(
    info: ModelInfo,
    options: Options,
    settings: Settings,
    machine: Machine,
    *,
    estimate: Estimate = estimate_memory,
) -> LoadPlan:
    """The plan for text. Raises DoesNotFit."""
    return _plan(LoadRequest(info, options, settings, machine), estimate)


def plan_embedding(
    info: ModelInfo,
    options: Options,
    settings: Settings,
    machine: Machine,
    *,
    estimate: Estimate = estimate_memory,
) -> LoadPlan:
    """The plan for embeddings. Raises DoesNotFit."""
    return _plan(LoadRequest(info, options, settings, machine, embedding=True), estimate)


def word_wish(request: LoadRequest) -> Load:
    """The least load that serves the request, whatever the plan for it gives up.

    It has the least context and batch that are accepted; what the plan chooses is as for a machine
    with endless memory. Takes no estimate: every request is worded, and few need a load.
    """
    wish = _wish_of(request)
    choice = LoadChoice(wish.least_ctx, wish.kv_types[0], min(wish.slots), wish.drafters[0])
    load = word_load(request, choice)
    asked = request.options
    return msgspec.structs.replace(load, gpu_layers=asked.num_gpu, main_gpu=asked.main_gpu)


def gives_up_little(plan: LoadPlan, best: LoadPlan) -> bool:
    """Whether a plan is as good as the best one, but for a shorter context that is comfortable."""
    same = {
        name: getattr(best.load, name)
        for name in (
            "num_ctx",
            "cells",
            "batch",
            "main_gpu",
            "tensor_split",
            "profile",
            "host_bytes",
        )
    }
    is_same = msgspec.structs.replace(plan.load, **same) == best.load
    return is_same and is_comfortable(plan.load.num_ctx, best.load.num_ctx)


def _plan(request: LoadRequest, estimate: Estimate) -> LoadPlan:
    machine, settings = request.machine, request.settings
    problem = FitProblem(
        _wish_of(request),
        budget_of(machine, gpu_overhead_bytes=settings.gpu_overhead_bytes),
        _count_layers(request.info.header),
        cache(partial(_need, request, estimate)),  # a search looks at some choices again
        maps_weights(request),
    )
    choice = fit(problem)
    if choice is None:
        raise DoesNotFit(refusal_of(problem, request.info.model.name.short))
    need, warning = problem.need_of(choice), placement_warning(problem, choice)
    # Drivers of GPUs take memory of the host that no plan knows.
    host_bytes = 0 if machine.gpus else need.host.total_bytes
    return LoadPlan(
        msgspec.structs.replace(word_load(request, choice), host_bytes=host_bytes),
        need,
        concessions_of(problem, choice),
        (warning,) if warning else (),
        summary_of(problem, choice, need),
        tuple(gpu.name for gpu in machine.gpus),
        None if estimate is estimate_memory else need_of(request, choice, estimate_memory),
    )


def _wish_of(request: LoadRequest) -> Wish:
    return wish_of(request.info, request.options, request.settings, embedding=request.embedding)


def _need(request: LoadRequest, estimate: Estimate, choice: LoadChoice) -> MemoryEstimate:
    return need_of(request, choice, estimate)


def _count_layers(header: Header) -> LayerCount:
    has_experts = any(EXPERTS in tensor.name for tensor in header.tensors)
    return LayerCount(num_layers(header) + 1, has_experts)
