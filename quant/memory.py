"""How many bytes does a load take on each device? Computed from GGUF headers alone.

README.md has the formulas and their sources. Buffers are those that llama.cpp names in its log;
what the process takes besides on the host is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from .compute_buffer import compute_by_device
from .draft_memory import DrafterBytes, drafter_sizes
from .gguf import Header
from .graph_buffer import HOST
from .graph_builder import F32
from .kv_cache import (
    CELL_STEP,
    ContextShape,
    cache_by_device,
    cache_bytes,
    has_cache,
    has_states,
    num_outputs,
)
from .layers import num_layers, vocabulary_size
from .placement import Placement, device_of_layer, weights_by_device

__all__ = [
    "CELL_STEP",
    "ContextShape",
    "MemoryEstimate",
    "ModelHeaders",
    "PartBytes",
    "Placement",
    "cache_bytes",
    "estimate_memory",
    "has_cache",
    "has_states",
    "weights_bytes",
]

T = TypeVar("T")

CUDA_CONTEXT_BYTES: Final = 320 << 20
"""What a process takes of a GPU before it allocates anything (300 to 500 MiB were measured)."""
ON_HOST: Final = Placement()
NO_DRAFTER: Final = DrafterBytes({}, 0, 0, 0)
PROJECTOR_FACTOR: Final = 1.4  # of a projector's file: with the buffers of its own graph


@dataclass(frozen=True, slots=True)
class ModelHeaders:
    """The headers of all files that one load reads."""

    target: Header
    drafter: Header | None = None
    projectors: tuple[Header, ...] = ()
    adapter_bytes: int = 0  # of all adapters
    mtp: bool = False  # whether the target's own NextN head drafts; else it is not loaded


@dataclass(frozen=True, slots=True)
class PartBytes:
    """Bytes on one device, by what they hold."""

    weights_bytes: int = 0
    cache_bytes: int = 0  # KV cache and recurrent states
    compute_bytes: int = 0  # compute and output buffers, as they are after the load
    adapter_bytes: int = 0
    drafter_bytes: int = 0  # all of the drafter
    projector_bytes: int = 0
    overhead_bytes: int = 0  # of the process and of the driver
    growth_bytes: int = 0  # by which output buffers grow when a decode has the most outputs

    @property
    def total_bytes(self) -> int:
        return sum(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a load takes on the host and on each GPU."""

    host: PartBytes
    gpus: tuple[PartBytes, ...] = ()

    @property
    def total_bytes(self) -> int:
        return self.host.total_bytes + sum(gpu.total_bytes for gpu in self.gpus)


def estimate_memory(
    model: ModelHeaders, context: ContextShape, placement: Placement = ON_HOST
) -> MemoryEstimate:
    """The memory of a model with one context, and of its drafter with another.

    Buffers whose graph the header does not describe count as nothing: llama.cpp says whether it
    can load such a file.
    """
    header = model.target
    parts = _TargetParts(
        weights_by_device(header, placement, with_head=False),
        cache_by_device(header, context, placement),
        _described(lambda: compute_by_device(header, context, placement), {}),
    )
    drafter = _described(lambda: _drafter_of(model, context), NO_DRAFTER)
    devices = range(placement.num_gpus)
    return MemoryEstimate(
        _host_part(model, context, placement, parts, drafter),
        tuple(_gpu_part(model, placement, parts, drafter, device) for device in devices),
    )


@dataclass(frozen=True, slots=True)
class _TargetParts:
    """Bytes of the target by device."""

    weights: Mapping[int, int]
    cache: Mapping[int, int]
    compute: Mapping[int, int]


def _described(size: Callable[[], T], unknown: T) -> T:
    """A size, or `unknown` where names or shapes of tensors are not those of any known block."""
    try:
        return size()
    except (LookupError, ValueError, RecursionError):
        return unknown


def _drafter_of(model: ModelHeaders, context: ContextShape) -> DrafterBytes:
    if model.drafter is None and not model.mtp:
        return NO_DRAFTER
    return drafter_sizes(model.drafter, model.target, context)


def _host_part(
    model: ModelHeaders,
    context: ContextShape,
    placement: Placement,
    parts: _TargetParts,
    drafter: DrafterBytes,
) -> PartBytes:
    """The host has the output buffers in any case."""
    row = vocabulary_size(model.target) * F32
    output = context.sequences * row
    growth = num_outputs(model.target, context) * row - output
    on_host = drafter.output + _drafter_bytes(model, placement, drafter, HOST)
    return PartBytes(
        parts.weights.get(HOST, 0),
        parts.cache.get(HOST, 0),
        parts.compute.get(HOST, 0) + output,
        _share(model.adapter_bytes, parts.weights, HOST),
        on_host,
        0 if placement.num_gpus else _projector_bytes(model),
        growth_bytes=max(growth, 0) + drafter.growth,
    )


def _gpu_part(
    model: ModelHeaders,
    placement: Placement,
    parts: _TargetParts,
    drafter: DrafterBytes,
    device: int,
) -> PartBytes:
    return PartBytes(
        parts.weights.get(device, 0),
        parts.cache.get(device, 0),
        parts.compute.get(device, 0),
        _share(model.adapter_bytes, parts.weights, device),
        _drafter_bytes(model, placement, drafter, device),
        _projector_bytes(model) if device == 0 else 0,
        CUDA_CONTEXT_BYTES,
    )


def _drafter_bytes(
    model: ModelHeaders, placement: Placement, drafter: DrafterBytes, device: int
) -> int:
    """A drafter lies beside the last layer of its target, whose keys an assistant reads."""
    layers = num_layers(model.target)
    own = device_of_layer(placement, layers, layers - 1)
    if device != own:
        return drafter.weights.get(HOST, 0) if device == HOST else 0
    weights = _on_host(model, drafter) if own == HOST else drafter.weights.get(0, 0)
    return weights + drafter.cache + drafter.compute


def _on_host(model: ModelHeaders, drafter: DrafterBytes) -> int:
    """A drafter's weights where no GPU has it: each tensor once."""
    return weights_bytes(model.drafter) if model.drafter else sum(drafter.weights.values())


def _share(size_bytes: int, weights: Mapping[int, int], device: int) -> int:
    """An adapter's matrices lie beside those that they are added to."""
    return size_bytes * weights.get(device, 0) // max(sum(weights.values()), 1)


def _projector_bytes(model: ModelHeaders) -> int:
    return round(PROJECTOR_FACTOR * sum(header.size_bytes for header in model.projectors))


def weights_bytes(header: Header) -> int:
    """The size of all tensors."""
    return sum(tensor.size_bytes for tensor in header.tensors)
