"""What are the results: JSON, and a table of ratios beside their goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

from .failure import BenchFailed
from .neighbour import NEIGHBOURHOODS
from .scenarios import STREAMS, Values

Fact = str | int | float


class Run(msgspec.Struct, frozen=True):
    """One measurement of both servers, in turns."""

    load_average: float  # of the machine before the run, 1 minute
    outrider: Values
    peer: Values


class Results(msgspec.Struct, frozen=True):
    """The content of a results file."""

    taken_at: datetime
    machine: dict[str, Fact]
    settings: dict[str, Fact]
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a median: of the ratio Outrider/peer, or of Outrider's own figure."""

    bound: float
    at_least: bool = False
    of_ratio: bool = True

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {_figure(self.bound)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure of a scenario, its title, unit and goal."""

    key: str
    title: str
    unit: str
    goal: Goal | None = None


def own(bound: float) -> Goal:
    """A bound for Outrider's own figure."""
    return Goal(bound, of_ratio=False)


ROWS = (
    *(
        Row(f"rate-{n}", f"all tokens, streams: {n}", "tok/s", Goal(1.0, at_least=True))
        for n in STREAMS
    ),
    *(Row(f"stream-rate-{n}", f"decode of each, streams: {n}", "tok/s") for n in STREAMS),
    *(
        Row(f"seen-rate-{n}", f"seen chats at once: {n}", "tok/s", Goal(1.0, at_least=True))
        for n in STREAMS
    ),
    *(Row(f"seen-ttft-{n}", f"first token, seen chats: {n}", "ms") for n in STREAMS),
    *(
        Row(f"neighbour-{name}", kind.title, "tok/s", Goal(0.9, at_least=True))
        for name, kind in NEIGHBOURHOODS.items()
    ),
    Row("ttft-short", "first token, short prompt", "ms", Goal(1.05)),
    Row("ttft-long", "first token, 2,000 tokens", "ms"),
    Row("ttft-repeat", "first token, the same again", "ms", Goal(1.0)),
    Row("ttft-shared-idle", "shared prompt, one by one", "ms"),
    Row("ttft-shared-burst", "shared prompt, all at once", "ms", Goal(0.35)),
    Row("stall", "longest gap by median gap", "x", own(3.0)),
    Row("stall-calm", "longest gap by undisturbed gap", "x"),
    Row("stall-ttft", "first token, long prompt", "ms"),
    Row("load-warm", "first token, model not loaded", "ms", Goal(1.0)),
    Row("load-cold", "the same, weights on disk", "ms", Goal(1.0)),
    Row("memory-loaded", "memory, loaded", "MiB"),
    Row("memory", "memory, after all", "MiB"),
    Row("overhead-greedy-percent", "own work, 8 streams", "%", own(3.0)),
    Row("overhead-greedy-ms", "own work, 8 streams", "ms"),
    Row("overhead-sampled-percent", "own work, 8 sampled", "%", own(3.0)),
    Row("overhead-sampled-ms", "own work, 8 sampled", "ms"),
    Row("overhead-wide-greedy-ms", "own work, 4 x 262,144", "ms", own(0.3)),
    Row("overhead-wide-sampled-ms", "own work, 4 x 262,144 sampled", "ms", own(1.2)),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum of one figure over the runs."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A row with its figures."""

    row: Row
    outrider: Spread
    peer: Spread | None
    ratio: Spread | None

    @property
    def judged(self) -> Spread | None:
        """The figure that the goal bounds."""
        goal = self.row.goal
        return self.ratio if goal is None or goal.of_ratio else self.outrider

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal or without figures."""
        goal, judged = self.row.goal, self.judged
        return None if goal is None or judged is None else goal.is_met(judged.middle)


def find(results: Results) -> list[Finding]:
    """The rows that have figures."""
    return [finding for row in ROWS if (finding := _find(row, results.runs))]


def _find(row: Row, runs: Sequence[Run]) -> Finding | None:
    ours = [run.outrider[row.key] for run in runs if row.key in run.outrider]
    theirs = [run.peer[row.key] for run in runs if row.key in run.peer]
    both = [run for run in runs if row.key in run.outrider and run.peer.get(row.key)]
    ratios = [run.outrider[row.key] / run.peer[row.key] for run in both]
    if not ours:
        return None
    return Finding(row, spread(ours), spread(theirs) if theirs else None, ratios_of(ratios))


def ratios_of(ratios: Sequence[float]) -> Spread | None:
    return spread(ratios) if ratios else None


def spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), median(values), max(values))


HEAD = ("", "", "Outrider", "peer", "min", "median", "max", "goal", "")


def table(findings: Sequence[Finding]) -> str:
    """Medians of both, the ratio Outrider/peer over the runs, and the goal.

    A goal for Outrider's own figure, not for the ratio, is marked with *.
    """
    cells = [HEAD, *(_cells(finding) for finding in findings)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    lines = [_line(row, widths) for row in cells]
    note = "min, median, max: of the ratio Outrider/peer; *: a goal for Outrider's own figure"
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", note])


def _cells(finding: Finding) -> tuple[str, ...]:
    row, ratio, peer = finding.row, finding.ratio, finding.peer
    ratios = (ratio.low, ratio.middle, ratio.high) if ratio else ()
    goal = f"{row.goal}{'' if row.goal.of_ratio else ' *'}" if row.goal else ""
    verdict = {True: "met", False: "MISSED", None: ""}[finding.is_met]
    return (
        row.title,
        row.unit,
        _figure(finding.outrider.middle),
        _figure(peer.middle) if peer else "",
        *(f"{value:.2f}" for value in ratios),
        *[""] * (3 - len(ratios)),
        goal,
        verdict,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Text is left aligned, figures are right aligned."""
    words = {0, 1, len(cells) - 2, len(cells) - 1}
    aligned = (
        text.ljust(width) if i in words else text.rjust(width)
        for i, (text, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(aligned)


def _figure(value: float) -> str:
    """At least three digits, at most two of them after the point."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def save(results: Results, folder: Path) -> Path:
    """Writes the results, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results.taken_at.astimezone(UTC):%Y%m%d-%H%M%S}.json"
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    partial.replace(path)
    return path


def read(path: Path) -> Results:
    """Saved results. Raises BenchFailed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise BenchFailed(f"{path} holds no results of this benchmark: {error}") from error
