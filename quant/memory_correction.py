"""By how much are predictions wrong on this machine? Learned from what loads have really taken.

A correction belongs to one device, architecture and backend: graphs of one architecture are
predicted wrong in the same way. `predicted` is always what `estimate_memory` says, uncorrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from .memory import MemoryEstimate, PartBytes

RATIOS: Final = (0.8, 2.0)  # bounds: to expect too little ends a load, too much a context
MAX_OFFSET_BYTES: Final = 1 << 30  # of one device
MAX_LOADS: Final = 4  # the newest load counts as much as the others after so many


@dataclass(frozen=True, slots=True)
class MemoryCorrection:
    """What to expect beside a prediction; without loads, that it is right."""

    ratio: float = 1.0  # of compute bytes, allocated to predicted
    offset_bytes: int = 0  # of all other parts, allocated more than predicted; never less
    loads: int = 0  # from which this was learned


UNCORRECTED: Final = MemoryCorrection()


def learn(record: MemoryCorrection, predicted: PartBytes, measured: PartBytes) -> MemoryCorrection:
    """The record after one more load.

    A load moves it by half of the distance at first and by a fifth later, and the distance is
    bounded, so that no single load does harm.
    """
    weight = 1 / (2 + min(record.loads, MAX_LOADS - 1))
    ratio = record.ratio
    if predicted.compute_bytes and measured.compute_bytes:
        found = _bounded(measured.compute_bytes / predicted.compute_bytes, *RATIOS)
        ratio += weight * (found - ratio)
    missing = _bounded(_other_bytes(measured) - _other_bytes(predicted), 0, MAX_OFFSET_BYTES)
    offset = record.offset_bytes + weight * (missing - record.offset_bytes)
    return MemoryCorrection(ratio, round(offset), record.loads + 1)


def apply(record: MemoryCorrection, predicted: PartBytes) -> PartBytes:
    """The prediction for a device, corrected; nothing where nothing is allocated."""
    if not predicted.total_bytes:
        return predicted
    return replace(
        predicted,
        compute_bytes=round(record.ratio * predicted.compute_bytes),
        overhead_bytes=predicted.overhead_bytes + record.offset_bytes,
    )


def correct(
    estimate: MemoryEstimate, host: MemoryCorrection, gpus: Sequence[MemoryCorrection] = ()
) -> MemoryEstimate:
    """The estimate with the records of its devices; a GPU without one is left as it is."""
    records = (*gpus, *[UNCORRECTED] * (len(estimate.gpus) - len(gpus)))
    corrected = (apply(record, gpu) for record, gpu in zip(records, estimate.gpus, strict=False))
    return MemoryEstimate(apply(host, estimate.host), tuple(corrected))


def _other_bytes(part: PartBytes) -> int:
    """What llama.cpp allocates besides; a load does not measure overhead and growth."""
    return part.weights_bytes + part.cache_bytes + part.adapter_bytes + part.drafter_bytes


def _bounded(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
