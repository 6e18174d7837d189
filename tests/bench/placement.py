"""`python -m bench.placement`: does a load take on each device what was predicted for it?

With `--rpc` the devices are two processes of this machine, which needs a llama.cpp with its RPC
backend; otherwise they are the GPUs that llama.cpp finds. `make bench-rpc` and `make bench-gpu` run
it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from outrider.daemon.protocol import Load
from outrider.daemon.runner.llama.devices import read_devices, select_used
from outrider.quant.gguf import Header, read_header
from outrider.quant.memory import (
    ContextShape,
    ModelHeaders,
    PartBytes,
    Placement,
    estimate_memory,
)
from placing import NO_RPC, Placed, has_rpc, load_apart, serve_devices
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_recurrent import write_qwen35

from .failure import BenchFailed
from .gpu import require_gpu

TARGET = 0.03  # largest error of a total, as a share of it
NUM_SERVERS = 2
NUM_CTX, SLOTS, BATCH = 4096, 4, 512
MIB = 1 << 20
PARTS = ("weights", "cache", "compute", "drafter")  # that llama.cpp's log names


@dataclass(frozen=True, slots=True)
class PlacedCase:
    """A load, and where its layers go."""

    name: str
    load: Load
    placement: Placement


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """One part of one case on one device."""

    case: str
    device: str
    part: str  # of PARTS, or "total"
    predicted_bytes: int
    measured_bytes: int

    @property
    def error(self) -> float:
        """As a share of what was measured."""
        return (self.predicted_bytes - self.measured_bytes) / max(self.measured_bytes, 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.placement", description=__doc__)
    parser.add_argument("--rpc", action="store_true", help="use devices of other processes")
    parser.add_argument("--model", type=Path, help="a GGUF file in place of tiny models")
    parser.add_argument("--draft", type=Path, help="its drafter")
    args = parser.parse_args()
    try:
        with ExitStack() as opened:
            servers = opened.enter_context(_serve()) if args.rpc else ()
            names = [f"RPC{i}" for i in range(len(servers))] or _local_gpus()
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            loads = {"given": _given(args.model, args.draft)} if args.model else _tiny(folder)
            rows = [
                row
                for kind, load in loads.items()
                for case in make_cases(kind, load, len(names))
                for row in run_case(case, names, servers)
            ]
    except BenchFailed as error:
        sys.exit(f"bench: {error}")
    print("\n".join(table_lines(rows)))
    worst = max((row for row in rows if row.part == "total"), key=lambda row: abs(row.error))
    print(f"largest error of a total: {worst.error:+.1%} ({worst.case})")
    sys.exit(abs(worst.error) > TARGET)


def _serve() -> AbstractContextManager[tuple[str, ...]]:
    if not has_rpc():
        raise BenchFailed(NO_RPC)
    return serve_devices(NUM_SERVERS)


def _local_gpus() -> list[str]:
    require_gpu()
    return [gpu.name for gpu in select_used(read_devices())]


def _given(model: Path, draft: Path | None) -> Load:
    load = Load(str(model), NUM_CTX, cells=NUM_CTX * SLOTS, slots=SLOTS, batch=BATCH, speculation=0)
    return replace(load, draft=str(draft), speculation=None) if draft else load


def _tiny(folder: Path) -> dict[str, Load]:
    """One model of each kind that is placed in a way of its own."""
    gemma = write_gemma4(folder / "gemma4.gguf", layers=6)
    shared = write_gemma4(folder / "shared.gguf", layers=8, shared_kv_layers=4, per_layer_embd=16)
    return {
        "llama": _given(write_llama(folder / "llama.gguf", layers=8), None),
        "qwen35": _given(write_qwen35(folder / "qwen35.gguf"), None),
        "gemma4": _given(gemma, write_gemma4_assistant(folder / "a.gguf", gemma)),
        "gemma4 E": _given(shared, write_gemma4_assistant(folder / "b.gguf", shared)),
        "experts": _given(write_gemma4(folder / "experts.gguf", layers=6, experts=4), None),
    }


def make_cases(kind: str, load: Load, num_gpus: int) -> Iterator[PlacedCase]:
    """All layers, half of them, split over two GPUs, and experts on the host."""
    header = read_header(Path(load.model))
    layers = header.number(f"{header.architecture}.block_count") or 0
    one = replace(load, main_gpu=0)
    yield PlacedCase(f"{kind}, host", replace(load, gpu_layers=0), Placement())
    yield PlacedCase(f"{kind}, all layers", one, Placement(layers + 1))
    half = layers // 2 + 1
    yield PlacedCase(f"{kind}, {half} layers", replace(one, gpu_layers=half), Placement(half))
    if num_gpus > 1:
        split = (1.0, 3.0)
        placement = Placement(layers + 1, split)
        yield PlacedCase(f"{kind}, split", replace(load, tensor_split=split), placement)
    if header.number(f"{header.architecture}.expert_count"):
        kept = layers // 2
        placement = Placement(layers + 1, host_experts=kept)
        yield PlacedCase(f"{kind}, host experts", replace(one, host_experts=kept), placement)


def run_case(case: PlacedCase, gpus: list[str], servers: tuple[str, ...]) -> Iterator[PlacedRow]:
    """Loads it in a process of its own, and compares by device and part."""
    placed = load_apart(case.load, servers)
    if placed.refusal:
        raise BenchFailed(f"{case.name}: {placed.refusal}")
    predicted = predict(case, placed)
    totals = [0, 0]
    for device, part_bytes in zip(("CPU", *gpus), predicted, strict=False):
        for part in PARTS:
            expected = int(getattr(part_bytes, f"{part}_bytes"))
            found = int(getattr(placed.on(device), f"{part}_bytes"))
            totals = [totals[0] + expected, totals[1] + found]
            if expected or found:
                yield PlacedRow(case.name, device, part, expected, found)
    yield PlacedRow(case.name, "all", "total", *totals)


def predict(case: PlacedCase, placed: Placed) -> tuple[PartBytes, ...]:
    """The parts of the host and of each GPU."""
    load = case.load
    shape = ContextShape(load.cells, placed.num_seqs, load.batch, load.kv_type)
    drafter = _read(load.draft) if load.draft else None
    model = ModelHeaders(_read(load.model), drafter)
    estimate = estimate_memory(model, shape, case.placement)
    return (estimate.host, *estimate.gpus)


def _read(path: str) -> Header:
    return read_header(Path(path))


def table_lines(rows: list[PlacedRow]) -> Iterator[str]:
    """A line for each row, sizes in MiB."""
    yield f"{'load':28} {'device':6} {'part':8} {'predicted':>9} {'measured':>9} {'error':>7}"
    for row in rows:
        yield (
            f"{row.case:28} {row.device:6} {row.part:8} {row.predicted_bytes / MIB:9.2f} "
            f"{row.measured_bytes / MIB:9.2f} {row.error:+7.1%}"
        )


if __name__ == "__main__":
    main()
