"""`python -m bench.memory`: are the sizes that are computed from headers those of llama.cpp?

For each architecture, with and without its drafter, and each type of KV cache: the prediction, the
dry load, and what is really allocated, of the load with the largest error. Run from `tests/`, or
with it on the path: `make bench-memory` does so.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness import load_spec
from outrider.daemon.protocol import Load
from outrider.quant.gguf import Header, read_header
from outrider.quant.kv_cache import released_sequences
from outrider.quant.memory import ContextShape, ModelHeaders, estimate_memory
from outrider.quant.placement import Placement, weights_by_device

from .dry_load import DryReport, DryTask, run_loads
from .failure import BenchFailed
from .memory_subjects import Subject, subjects

MIB: Final = 1 << 20
SNAPSHOTS: Final = 4  # of a recurrent state, for going back (RECURRENT_DRAFTS of the runner)
GOAL: Final = 0.03  # of the sum of a load
KV_TYPES: Final = ("f16", "q8_0", "q4_0")
SHAPES: Final[Sequence[Mapping[str, int]]] = (
    {"batch": 512, "slots": 4, "cells": 32_768},
    {"batch": 128, "slots": 8, "cells": 131_072},
    {"batch": 32, "slots": 1, "cells": 4096},
    {"batch": 512, "slots": 1, "cells": 262_144},
)
HEAD: Final = ("model", "KV", "predicted MiB", "dry load MiB", "loaded MiB", "error %")
WIDTHS: Final = (20, 5, 13, 12, 11, 8)  # characters of the columns


@dataclass(frozen=True, slots=True)
class Measured:
    """A load's sizes: computed, of a dry load, and allocated (0 if there was no real one)."""

    predicted_bytes: int
    dry_bytes: int
    loaded_bytes: int

    @property
    def error(self) -> float:
        """The larger one of both, as a part of the sum."""
        known = [size for size in (self.dry_bytes, self.loaded_bytes) if size]
        return max(abs(self.predicted_bytes / size - 1) for size in known)


def measure_loads(loads: Sequence[Load], *, is_real: bool = True) -> list[Measured]:
    """The sizes of these loads, in order. Raises BenchFailed for a load that fails."""
    dry = run_loads(DryTask(load) for load in loads)
    real = run_loads(DryTask(load, is_dry=False) for load in loads) if is_real else ()
    found = list[Measured]()
    for number, load in enumerate(loads):
        predicted, weights = _predict(load)
        loaded = _sum(real[number], load) if real else 0
        found.append(Measured(predicted, weights + _sum(dry[number], load), loaded))
    return found


def _predict(load: Load) -> tuple[int, int]:
    """The sum of all parts after the load, and the weights, which a dry load does not report."""
    target = read_header(Path(load.model))
    drafter = read_header(Path(load.draft)) if load.draft else None
    context = context_of(target, load)
    part = estimate_memory(ModelHeaders(target, drafter, mtp=load.mtp), context).host
    weights = _weights(target, with_head=load.mtp) + (_weights(drafter) if drafter else 0)
    return part.total_bytes - part.growth_bytes, weights


def _weights(header: Header, *, with_head: bool = True) -> int:
    return sum(weights_by_device(header, Placement(), with_head=with_head).values())


def _sum(report: DryReport, load: Load) -> int:
    if report.error:
        raise BenchFailed(f"{load.model}: {report.error}")
    return sum(buffer.size_bytes for buffer in report.buffers)


def context_of(target: Header, load: Load) -> ContextShape:
    """The context that the runner makes for a load (runner/llama/context.py)."""
    sequences = load.slots + released_sequences(target, load.slots)
    snapshots = min(SNAPSHOTS, load.batch - 2) if load.speculation != 0 else 0
    return ContextShape(load.cells, sequences, load.batch, load.kv_type, snapshots)


def load_of(subject: Subject, kv_type: str, shape: Mapping[str, int]) -> Load:
    """How the subject is loaded."""
    options = {"kv_type": kv_type, "mtp": subject.mtp, "speculation": 2, **shape}
    return load_spec(subject.model, draft=str(subject.draft or ""), **options)


def measure_worst(subject: Subject, kv_type: str) -> Measured:
    """The shape of a load that is predicted worst. A sparse file is not read."""
    loads = [load_of(subject, kv_type, shape) for shape in SHAPES]
    found = measure_loads(loads, is_real=not subject.is_sparse)
    return max(found, key=lambda one: one.error)


def _measure_all() -> Iterator[tuple[str, str, Measured]]:
    with tempfile.TemporaryDirectory() as folder:
        for name, subject in subjects(Path(folder)):
            for kv_type in KV_TYPES:
                yield name, kv_type, measure_worst(subject, kv_type)


def _line(cells: Sequence[str]) -> str:
    first, *rest = (cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return "  ".join((first.strip().ljust(WIDTHS[0]), *rest))


def main() -> None:
    """Prints the table; exits with a message if an error is larger than the goal."""
    print(_line(HEAD))
    worst = 0.0
    for name, kv_type, found in _measure_all():
        sizes = (found.predicted_bytes, found.dry_bytes, found.loaded_bytes)
        texts = (f"{size / MIB:,.2f}" if size else "" for size in sizes)
        print(_line((name, kv_type, *texts, f"{100 * found.error:.2f}")), flush=True)
        worst = max(worst, found.error)
    print(f"largest error: {100 * worst:.2f} %")
    if worst > GOAL:
        sys.exit(f"bench: an error is larger than {100 * GOAL:.0f} %")


if __name__ == "__main__":
    main()
