"""A stand-in for runner processes: it answers what a test has scripted, without any weights."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import numpy as np
from outrider.daemon.protocol import (
    Delta,
    Done,
    Embed,
    Embedded,
    Load,
    Ready,
    SpeculationReport,
    Stats,
    Submit,
)

HANG = "hang"  # as an item of a script: nothing comes until the request is cancelled

Script = Sequence[Delta | Exception | str]

REPORT = SpeculationReport("ngram", drafted=8, accepted=6, mean_length=2.667, speedup=1.23456)
DONE = Done(
    reason="stop",
    prompt_tokens=5,
    cached_tokens=2,
    prompt_ns=1_000,
    eval_tokens=4,
    eval_ns=2_000,
    context=(1, 2, 3),
)
WIDTH = 4  # floats of a scripted vector


class FakeRunner:
    """One loaded model. Scripts are taken from the front of `runners.scripts`."""

    def __init__(self, load: Load, runners: FakeRunners) -> None:
        self.load = load
        self.ready = runners.ready
        self.stats = runners.stats
        self.is_alive = True
        self._runners = runners

    async def submit(self, request: Submit) -> AsyncGenerator[Delta, None]:
        self._runners.submits.append(request)
        script = self._runners.scripts.popleft()
        try:
            for item in script:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, str):
                    await asyncio.Event().wait()
                else:
                    yield item
        except (asyncio.CancelledError, GeneratorExit):
            self._runners.cancelled.set()
            raise

    async def embed(self, request: Embed) -> Embedded:
        self._runners.embeds.append(request)
        if self._runners.embed_error:
            raise self._runners.embed_error
        rows = np.asarray(self._runners.vectors[: len(request.texts)], "<f4")
        return Embedded(0, rows.tobytes(), WIDTH, prompt_tokens=3 * len(rows))

    async def stop(self) -> None:
        self.is_alive = False


class FakeRunners:
    """Starts fake runners (`start` is a StartRunner) and keeps what they were sent."""

    def __init__(self) -> None:
        self.scripts: deque[Script] = deque()
        self.vectors: list[list[float]] = []
        self.load_error: Exception | None = None
        self.embed_error: Exception | None = None
        self.ready = Ready(size_bytes=1000, size_vram_bytes=400)
        self.stats = Stats()
        self.loads: list[Load] = []
        self.submits: list[Submit] = []
        self.embeds: list[Embed] = []
        self.cancelled = asyncio.Event()  # a request was left before its end

    async def start(self, load: Load) -> FakeRunner:
        self.loads.append(load)
        if self.load_error:
            raise self.load_error
        return FakeRunner(load, self)
