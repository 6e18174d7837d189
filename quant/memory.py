"""How many bytes does a load take on each device? Computed from GGUF headers alone.

README.md has the formulas and their sources. Buffers are those that llama.cpp names in its log;
what the process takes besides on the host is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from .compute_buffer import compute_by_device
from .draft_memory import DrafterBytes, DrafterPlace, drafter_sizes
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
from .layers import num_layers, number, vocabulary_size
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
    parts = _LoadParts(
        weights_by_device(header, placement, with_head=False),
        cache_by_device(header, context, placement),
        _described(lambda: compute_by_device(header, context, placement), {}),
        _described(lambda: _drafter_of(model, context, placement), None),
    )
    devices = range(placement.num_gpus)
    return MemoryEstimate(
        _host_part(model, context, placement, parts),
        tuple(_gpu_part(model, parts, device) for device in devices),
    )


@dataclass(frozen=True, slots=True)
class _LoadParts:
    """Bytes by device, of a target and, if there is one, its drafter."""

    weights: Mapping[int, int]
    cache: Mapping[int, int]
    compute: Mapping[int, int]
    drafter: DrafterBytes | None

    def on(self, device: int, model: ModelHeaders) -> PartBytes:
        """What each part takes of this device."""
        return PartBytes(
            self.weights.get(device, 0),
            self.cache.get(device, 0),
            self.compute.get(device, 0),
            _share(model.adapter_bytes, self.weights, device),
            self.drafter.on(device) if self.drafter else 0,
        )


def _described(size: Callable[[], T], unknown: T) -> T:
    """A size, or `unknown` where names or shapes of tensors are not those of any known block."""
    try:
        return size()
    except (LookupError, ValueError, RecursionError):
        return unknown


def _drafter_of(
    model: ModelHeaders, context: ContextShape, placement: Placement
) -> DrafterBytes | None:
    """It lies beside the last keys and values of its target, which an assistant reads."""
    if model.drafter is None and not model.mtp:
        return None
    target, layers = model.target, num_layers(model.target)
    last = layers - number(target, "attention.shared_kv_layers") - 1
    device = device_of_layer(placement, layers, last)
    return drafter_sizes(model.drafter, DrafterPlace(target, context, device))


def _host_part(
    model: ModelHeaders, context: ContextShape, placement: Placement, parts: _LoadParts
) -> PartBytes:
    """The host has the output buffers in any case."""
    row, part = vocabulary_size(model.target) * F32, parts.on(HOST, model)
    output = context.sequences * row
    growth = max(num_outputs(model.target, context) * row - output, 0)
    return replace(
        part,
        compute_bytes=part.compute_bytes + output,
        projector_bytes=0 if placement.num_gpus else _projector_bytes(model),
        growth_bytes=growth + (parts.drafter.growth if parts.drafter else 0),
    )


def _gpu_part(model: ModelHeaders, parts: _LoadParts, device: int) -> PartBytes:
    return replace(
        parts.on(device, model),
        projector_bytes=_projector_bytes(model) if device == 0 else 0,
        overhead_bytes=CUDA_CONTEXT_BYTES,
    )


def _share(size_bytes: int, weights: Mapping[int, int], device: int) -> int:
    """An adapter's matrices lie beside those that they are added to."""
    return size_bytes * weights.get(device, 0) // max(sum(weights.values()), 1)


def _projector_bytes(model: ModelHeaders) -> int:
    return round(PROJECTOR_FACTOR * sum(header.size_bytes for header in model.projectors))


def weights_bytes(header: Header) -> int:
    """The size of all tensors."""
    return sum(tensor.size_bytes for tensor in header.tensors)
