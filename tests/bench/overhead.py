"""How long does a step take outside of `llama_decode`?

Runs in a process of its own, with the environment of a runner, and prints its figures as JSON:
`python -m bench.overhead MODEL.gguf THREADS`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from engines import open_engine
from harness import GREEDY, EngineHarness, text_request
from outrider.daemon.protocol import Delta, Load, Sampling
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runners.process import RUNNER_ENV
from tiny import write_llama

from .failure import BenchFailed
from .scenarios import Prompts, Values

STREAMS = 8
WIDE_VOCAB = 262_144
WIDE_STREAMS = 4
STEPS = 64
SKIPPED_STEPS = 8  # at the start and at the end
TIMEOUT_S = 180.0
SAMPLINGS = {"greedy": GREEDY, "sampled": Sampling(seed=1)}


@dataclass(slots=True)
class Stopwatch:
    """Times the steps of an engine in which `rows` streams decode and nothing else happens."""

    rows: int
    steps_s: list[float] = field(default_factory=list)
    inside_s: list[float] = field(default_factory=list)
    _rows_now: int = 0
    _inside_now_s: float = 0.0

    def attach(self, harness: EngineHarness) -> None:
        step, decode = harness.engine.step, harness.loaded.context.decode
        harness.engine.step = self._time_step(step)  # type: ignore[method-assign]
        harness.loaded.context.decode = self._time_decode(decode)  # type: ignore[method-assign,assignment]

    def _time_decode(self, decode: Callable[[Batch], int]) -> Callable[[Batch], int]:
        def timed(rows: Batch) -> int:
            start_s = time.perf_counter()
            rc = decode(rows)
            self._inside_now_s += time.perf_counter() - start_s
            self._rows_now = rows.count
            return rc

        return timed

    def _time_step(self, step: Callable[[], list[Delta]]) -> Callable[[], list[Delta]]:
        def timed() -> list[Delta]:
            self._inside_now_s = 0.0
            start_s = time.perf_counter()
            deltas = step()
            took_s = time.perf_counter() - start_s
            if self._rows_now == self.rows:
                self.steps_s.append(took_s)
                self.inside_s.append(self._inside_now_s)
            return deltas

        return timed

    def values(self, name: str) -> Values:
        """Medians over the steps, which a busy neighbour on the machine disturbs little."""
        pairs = list(zip(self.steps_s, self.inside_s, strict=True))[SKIPPED_STEPS:]
        own_s = median(step - inside for step, inside in pairs)
        share = median((step - inside) / step for step, inside in pairs)
        return {f"{name}-ms": 1000 * own_s, f"{name}-percent": 100 * share}


def measure(gguf: Path, threads: int) -> Values:
    """Overhead values of the model, started as a process. Raises BenchFailed."""
    command = [sys.executable, "-m", "bench.overhead", str(gguf), str(threads)]
    env = {**RUNNER_ENV, **os.environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise BenchFailed(f"the engine's overhead could not be measured:\n{done.stderr}")
    values: Values = json.loads(done.stdout)
    return values


def _time(gguf: Path, streams: int, threads: int, sampling: Sampling, name: str) -> Values:
    num_ctx = 512
    shape = num_ctx, num_ctx * streams, streams
    load = Load(str(gguf), *shape, batch=512, threads=threads, speculation=0)
    prompts, watch = Prompts("overhead"), Stopwatch(streams)
    with open_engine(load) as harness:
        watch.attach(harness)
        num_predict = STEPS + 2 * SKIPPED_STEPS
        for i in range(streams):
            harness.submit(text_request(i, prompts.count(), num_predict, sampling=sampling))
        while not harness.done and len(watch.steps_s) < STEPS + SKIPPED_STEPS:
            harness.turn()
    return watch.values(name)


def main() -> None:
    gguf, threads = Path(sys.argv[1]), int(sys.argv[2])
    values: Values = {}
    with tempfile.TemporaryDirectory() as folder:
        wide = write_llama(Path(folder) / "wide.gguf", vocab=WIDE_VOCAB, embd=32)
        for kind, sampling in SAMPLINGS.items():
            values |= _time(gguf, STREAMS, threads, sampling, f"overhead-{kind}")
            values |= _time(wide, WIDE_STREAMS, threads, sampling, f"overhead-wide-{kind}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
