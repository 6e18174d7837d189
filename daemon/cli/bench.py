"""What does reading ahead bring for a model on this machine: plain, fixed lengths, adaptive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from .bench_prompts import ADAPTIVE, PLAIN, PROMPTS, BenchRequest
from .client import Client, DaemonError, Json

FIXED = ("1", "2", "4", "8")
WAYS = (PLAIN, *FIXED, ADAPTIVE)
TOGETHER_S = 0.005  # within which the lines of one step come


@dataclass(frozen=True, slots=True)
class BenchCell:
    """One place of the table."""

    kind: str
    temperature: float
    streams: int
    way: str


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One run of a cell; its streams together."""

    tokens_per_s: float
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All runs of one cell."""

    cell: BenchCell
    tokens_per_s: float  # median
    ratio: float  # to plain decoding, median of the pairs
    acceptance: float | None


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """A streamed answer as it came."""

    tokens: int
    pieces: tuple[tuple[float, int], ...]  # when, by one monotonic clock, and how many tokens

    def share(self, start_s: float, end_s: float) -> float:
        """Tokens that came after the start, not counting those of its own step. Of an answer that
        does not tell all its tokens, so many as its pieces stand for."""
        total = sum(count for _, count in self.pieces)
        start_s, end_s = start_s + TOGETHER_S, end_s + TOGETHER_S
        between = sum(count for at_s, count in self.pieces if start_s < at_s <= end_s)
        return self.tokens * between / total


def rate(answers: Sequence[TimedAnswer]) -> float:
    """Tokens a second while all of them are under way: prompts do not count, nor the emptier batch
    when the first has ended. Raises DaemonError if they never were."""
    start_s = max((answer.pieces[0][0] for answer in answers if answer.pieces), default=0.0)
    end_s = min((answer.pieces[-1][0] for answer in answers if answer.pieces), default=0.0)
    if start_s >= end_s:
        raise DaemonError("the answers were too short to be measured: ask for more tokens")
    return sum(answer.share(start_s, end_s) for answer in answers) / (end_s - start_s)


async def measure(client: Client, model: str, cell: BenchCell, num_predict: int) -> BenchRun:
    """The streams of one cell, all at once. Raises DaemonError."""
    requests = [
        BenchRequest(model, cell.kind, cell.way, number, cell.temperature, num_predict)
        for number in range(cell.streams)
    ]
    answers = await asyncio.gather(*(_listen(client, request) for request in requests))
    told = [final.get("speculation") or {} for _, final in answers]
    return BenchRun(
        rate([answer for answer, _ in answers]),
        sum(entry.get("drafted", 0) for entry in told),
        sum(entry.get("accepted", 0) for entry in told),
    )


async def _listen(client: Client, request: BenchRequest) -> tuple[TimedAnswer, Json]:
    """An answer, and the object that ended it. Logprobs tell how many tokens a line stands for."""
    pieces, final = [], {}
    async for final in client.stream("/api/chat", request.body(logprobs=0) | {"stream": True}):
        if told := final.get("logprobs"):
            pieces.append((time.perf_counter(), len(told)))
    return TimedAnswer(final["eval_count"], tuple(pieces)), final


def rows(streams: Sequence[int], temperatures: Sequence[float]) -> Iterator[list[BenchCell]]:
    """The cells that are compared with each other, plain decoding first."""
    for number in streams:
        for kind in PROMPTS:
            for temperature in temperatures:
                yield [BenchCell(kind, temperature, number, way) for way in WAYS]


def summarise(row: Sequence[BenchCell], runs: Sequence[Sequence[BenchRun]]) -> list[BenchResult]:
    """The medians of a row; `runs` has a list for each run, in the order of the cells. Ratios are
    taken within a run, for the speed of a machine drifts."""
    results = []
    for i, cell in enumerate(row):
        own = [run[i] for run in runs]
        drafted = sum(each.drafted for each in own)
        results.append(
            BenchResult(
                cell,
                median(each.tokens_per_s for each in own),
                median(run[i].tokens_per_s / run[0].tokens_per_s for run in runs),
                sum(each.accepted for each in own) / drafted if drafted else None,
            )
        )
    return results


def header() -> str:
    """Of the lines of `line`."""
    columns = "".join(f"{way if way in (PLAIN, ADAPTIVE) else f'draft {way}':>12}" for way in WAYS)
    return f"{'streams':>7}  {'prompt':<6} {'temp':>4}{columns}"


def line(results: Sequence[BenchResult]) -> str:
    """A row of the table: tokens a second plainly, then ratios to that, with what was accepted."""
    cell = results[0].cell
    figures = [f"{results[0].tokens_per_s:>12.1f}"]
    for result in results[1:]:
        share = "" if result.acceptance is None else f" {result.acceptance:.0%}"
        figures.append(f"{f'{result.ratio:.2f}x{share}':>12}")
    return f"{cell.streams:>7}  {cell.kind:<6} {cell.temperature:>4g}{''.join(figures)}"
