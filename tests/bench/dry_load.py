"""What does llama.cpp allocate for a load? A child process asks it, with or without allocating.

A dry load (GUIDE 9.3) reads no weights, so a header whose tensor data are a hole in a sparse file
is enough for the sizes of a model that this machine could never hold.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from llama_cpp import llama_cpp as lib
from outrider.daemon.protocol import Load
from outrider.daemon.runner.llama.adapter import load_adapters
from outrider.daemon.runner.llama.context import TextContext
from outrider.daemon.runner.llama.loading import LoadedContext
from outrider.daemon.runner.llama.log import LlamaLog
from outrider.daemon.runner.llama.memory_check import MemoryCheck
from outrider.daemon.runner.llama.model import LlamaModel
from outrider.daemon.runner.llama.placement import place_target
from outrider.daemon.runner.speculation.drafter_loading import load_drafter

from .failure import BenchFailed

FOLDER = Path(__file__).parents[1]
MIB = 1 << 20
# Lines such as "load_tensors:   CPU model buffer size =     1.00 MiB" (GUIDE 10.4).
BUFFER = re.compile(r"(\S+) +(model|KV|RS|LoRA|compute|output) buffer size = +([\d.]+) MiB")
# A dry load reports KV buffers of 0 MiB, and after them the size of their cache. A cache that is
# another context's has no buffers.
CACHE = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB \(")


class Buffer(msgspec.Struct, frozen=True):
    """One buffer that llama.cpp has named in its log, in steps of 0.01 MiB."""

    owner: str  # "target" or "drafter"
    device: str  # such as "CPU", "CPU_REPACK", "CUDA0"
    part: str  # "model", "KV", "RS", "LoRA", "compute" or "output"
    size_bytes: int


class DryTask(msgspec.Struct, frozen=True):
    """A load to try. A real one (`is_dry` false) allocates and reads everything."""

    load: Load
    is_dry: bool = True


class DryReport(msgspec.Struct, frozen=True):
    """What one load has allocated, or would; or why it failed."""

    buffers: tuple[Buffer, ...] = ()
    error: str = ""


def run_loads(tasks: Iterable[DryTask]) -> tuple[DryReport, ...]:
    """Does the loads in one child process, one after the other. Raises BenchFailed if it dies."""
    lines = b"\n".join(msgspec.json.encode(task) for task in tasks)
    command = [sys.executable, "-m", "bench.dry_load"]
    done = subprocess.run(command, input=lines, capture_output=True, cwd=FOLDER, check=False)
    if done.returncode:
        raise BenchFailed(f"a load ended its process ({done.returncode}): {done.stderr[-2000:]!r}")
    return tuple(msgspec.json.decode(line, type=DryReport) for line in done.stdout.splitlines())


class _BufferLog(LlamaLog):
    """llama.cpp's log, reduced to its buffers."""

    def __init__(self) -> None:
        self.owner, self.buffers = "target", list[Buffer]()
        super().__init__()

    def read(self, level: int, text: bytes) -> None:
        super().read(level, text)
        line = text.decode("utf-8", "replace")
        for device, part, mib in BUFFER.findall(line):
            self.buffers.append(Buffer(self.owner, device, part, int(float(mib) * MIB)))
        cache, last = CACHE.search(line), self.buffers[-1:]
        if cache and last and last[0].part == "KV" and not last[0].size_bytes:
            size_bytes = int(float(cache[1]) * MIB)
            self.buffers[-1] = Buffer(self.owner, last[0].device, "KV", size_bytes)


class _DryParams:
    """llama.cpp's default parameters of a model, and in a dry load those that read nothing.

    The runner's own code fills in the rest, so that the contexts are those of the runner.
    """

    def __init__(self) -> None:
        self._defaults = lib.llama_model_default_params
        self.is_dry = True

    def __call__(self) -> lib.llama_model_params:
        params = self._defaults()
        if self.is_dry:
            params.no_alloc, params.load_mode = True, lib.LLAMA_LOAD_MODE_NONE
        return params


def _report(load: Load) -> DryReport:
    try:
        return DryReport(tuple(_load(load)))
    except Exception as error:
        return DryReport(error=f"{type(error).__name__}: {error}")


def _load(load: Load) -> list[Buffer]:
    """As the runner loads it, with its drafter."""
    log = _BufferLog()
    log.listen()
    lib.llama_backend_init()
    placement = place_target(load)
    model = LlamaModel(load.model, load, log, placement)
    adapters = load_adapters(model, load, log)
    context = TextContext(model, load)
    adapters.apply(context)
    if load.draft or load.mtp:
        log.owner = "drafter"
        load_drafter(LoadedContext(model, context, log, MemoryCheck(placement)), load)
    return log.buffers


def main() -> None:
    lib.llama_model_default_params = params = _DryParams()
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=DryTask)
        params.is_dry = task.is_dry
        sys.stdout.buffer.write(msgspec.json.encode(_report(task.load)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
