"""How fast is plain decoding, a fixed draft length, adaptive speculation, for a model here?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from .bench_prompts import ADAPTIVE, PLAIN, PROMPTS, BenchRequest
from .client import Client, DaemonError, Json

FIXED_LENGTHS = ("1", "2", "4", "8")  # draft tokens per step
MODES = (PLAIN, *FIXED_LENGTHS, ADAPTIVE)
SAME_STEP_S = 0.005
"""Lines of different streams that arrive within this time belong to one step."""
MAX_DOUBLINGS = 3
"""How often a cell runs again with twice the tokens, where one stream ended before another began:
a small model writes hundreds of tokens in less time than a busy machine takes to send a request."""


class StreamsApart(DaemonError):
    """There was no time at which all streams were being decoded."""


@dataclass(frozen=True, slots=True)
class BenchCell:
    """One cell of the table: a prompt, a temperature, a number of streams and a mode."""

    kind: str
    temperature: float
    streams: int
    mode: str


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One run of a cell; all its streams together."""

    tokens_per_s: float
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All runs of one cell."""

    cell: BenchCell
    tokens_per_s: float  # median
    ratio: float  # to plain decoding in the same run, median
    acceptance: float | None


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """A streamed answer and the arrival of its lines."""

    tokens: int
    lines: tuple[tuple[float, int], ...]  # arrival time in s (monotonic), tokens

    def tokens_between(self, start_s: float, end_s: float) -> float:
        """Tokens that arrived after the step at `start_s` and up to that at `end_s`. Lines may omit
        some tokens of the answer; the count is scaled to the whole answer."""
        total = sum(count for _, count in self.lines)
        start_s, end_s = start_s + SAME_STEP_S, end_s + SAME_STEP_S
        between = sum(count for at_s, count in self.lines if start_s < at_s <= end_s)
        return self.tokens * between / total


def rate(answers: Sequence[TimedAnswer]) -> float:
    """Tokens per second while all answers are being decoded: neither prefill nor the smaller batch
    after the first answer has ended counts. Raises StreamsApart if there is no such time."""
    start_s = max((answer.lines[0][0] for answer in answers if answer.lines), default=0.0)
    end_s = min((answer.lines[-1][0] for answer in answers if answer.lines), default=0.0)
    if start_s + SAME_STEP_S >= end_s:
        raise StreamsApart("the answers were too short to be measured: ask for more tokens")
    return sum(answer.tokens_between(start_s, end_s) for answer in answers) / (end_s - start_s)


async def measure(client: Client, model: str, cell: BenchCell, num_predict: int) -> BenchRun:
    """Runs the streams of one cell concurrently. Raises DaemonError."""
    for _ in range(MAX_DOUBLINGS):
        with contextlib.suppress(StreamsApart):
            return await _run_cell(client, model, cell, num_predict)
        num_predict *= 2
    return await _run_cell(client, model, cell, num_predict)


async def _run_cell(client: Client, model: str, cell: BenchCell, num_predict: int) -> BenchRun:
    """Raises StreamsApart, and DaemonError for what else goes wrong."""
    requests = [
        BenchRequest(model, cell.kind, cell.mode, number, cell.temperature, num_predict)
        for number in range(cell.streams)
    ]
    answers = await asyncio.gather(*(_timed_answer(client, request) for request in requests))
    reports = [final.get("speculation") or {} for _, final in answers]
    return BenchRun(
        rate([answer for answer, _ in answers]),
        sum(report.get("drafted", 0) for report in reports),
        sum(report.get("accepted", 0) for report in reports),
    )


async def _timed_answer(client: Client, request: BenchRequest) -> tuple[TimedAnswer, Json]:
    """An answer and its last object. The logprobs of a line give its number of tokens."""
    lines, final = [], {}
    async for final in client.stream("/api/chat", request.body(logprobs=0) | {"stream": True}):
        if logprobs := final.get("logprobs"):
            lines.append((time.perf_counter(), len(logprobs)))
    return TimedAnswer(final["eval_count"], tuple(lines)), final


def rows(streams: Sequence[int], temperatures: Sequence[float]) -> Iterator[list[BenchCell]]:
    """The rows of the table: the cells that are compared with each other, plain decoding first."""
    for number in streams:
        for kind in PROMPTS:
            for temperature in temperatures:
                yield [BenchCell(kind, temperature, number, mode) for mode in MODES]


def summarise(row: Sequence[BenchCell], runs: Sequence[Sequence[BenchRun]]) -> list[BenchResult]:
    """The medians of a row; `runs` has one list per run, in the order of the cells. Ratios are
    taken within a run because the speed of a machine drifts."""
    results = []
    for i, cell in enumerate(row):
        own = [run[i] for run in runs]
        speed = median(run.tokens_per_s for run in own)
        ratio = median(run[i].tokens_per_s / run[0].tokens_per_s for run in runs)
        accepted, drafted = sum(run.accepted for run in own), sum(run.drafted for run in own)
        results.append(BenchResult(cell, speed, ratio, accepted / drafted if drafted else None))
    return results


def mode_label(mode: str) -> str:
    """`mode` as the table and the page name it."""
    return mode if mode in (PLAIN, ADAPTIVE) else f"draft {mode}"


def header() -> str:
    """The header above the lines of `line`."""
    columns = "".join(f"{mode_label(mode):>12}" for mode in MODES)
    return f"{'streams':>7}  {'prompt':<6} {'temp':>4}{columns}"


def line(results: Sequence[BenchResult]) -> str:
    """A row of the table: tokens per second of plain decoding, then ratios and acceptance rates."""
    cell = results[0].cell
    figures = [f"{results[0].tokens_per_s:>12.1f}"]
    for result in results[1:]:
        share = "" if result.acceptance is None else f" {result.acceptance:.0%}"
        figures.append(f"{f'{result.ratio:.2f}x{share}':>12}")
    return f"{cell.streams:>7}  {cell.kind:<6} {cell.temperature:>4g}{''.join(figures)}"
