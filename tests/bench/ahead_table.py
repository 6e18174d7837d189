"""How fast is speculative decoding with a pair? A line per cell, with goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

from outrider.daemon.cli.bench_prompts import ADAPTIVE, PLAIN

from .ahead import BOUND, CELLS, FIXED, MISJUDGED, PEER, SAME, Cell
from .report import Results, Run, Spread, spread

GOALS = {"plain": 0.99, "fixed": 0.97, "peer": 1.0}  # adaptive / the best of these, at least
BOUND_GOAL = 0.9  # speed-up of one stream / its bound, at least
FIRST_PAIR = "qwen"  # the pair of old results that name none
HEAD = (
    "streams",
    "prompt",
    "temp",
    "plain",
    "/plain",
    "/fixed",
    "best",
    "/peer",
    "best",
    "/bound",
    "same",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One cell: adaptive / each other way, within a run; medians over the runs."""

    cell: Cell
    plain: float  # tokens per second
    by: Mapping[str, Spread]  # plain, the best fixed length, the best way of the peer
    fixed: str  # the best one
    peer: str
    bound: float | None  # speed-up of adaptive / bound; None with several streams
    same: float  # share of texts that are those of plain decoding


def lines(runs: Sequence[Run]) -> list[Line]:
    """The cells that were measured, each over the runs that reached it."""
    by_cell = {cell: [run for run in runs if cell.key(PLAIN) in run.outrider] for cell in CELLS}
    return [_line(cell, measured) for cell, measured in by_cell.items() if measured]


def _line(cell: Cell, runs: Sequence[Run]) -> Line:
    def by(way: str, side: str) -> Spread:
        pairs = ((run.outrider[cell.key(ADAPTIVE)], getattr(run, side)) for run in runs)
        return spread([adaptive / values[cell.key(way)] for adaptive, values in pairs])

    fixed = min(FIXED, key=lambda way: by(way, "outrider").middle)
    peers = [way for way in PEER if all(cell.key(way) in run.peer for run in runs)]
    peer = min(peers, key=lambda way: by(way, "peer").middle)
    return Line(
        cell,
        median(run.outrider[cell.key(PLAIN)] for run in runs),
        {"plain": by(PLAIN, "outrider"), "fixed": by(fixed, "outrider"), "peer": by(peer, "peer")},
        fixed,
        peer,
        _by_bound(cell, runs),
        median(run.outrider[cell.key(SAME)] for run in runs),
    )


def _by_bound(cell: Cell, runs: Sequence[Run]) -> float | None:
    """The median; None without a bound, as with several streams."""
    values = [run.outrider for run in runs if cell.key(BOUND) in run.outrider]
    gains = (v[cell.key(ADAPTIVE)] / v[cell.key(PLAIN)] / v[cell.key(BOUND)] for v in values)
    return median(gains) if values else None


def ahead_table(results: Results) -> str:
    """All cells, then their means; "" if nothing was measured. `!`: below the goal."""
    runs = results.runs
    measured = lines(runs)
    if not measured:
        return ""
    rows = [HEAD, *(_cells(line) for line in measured)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    text = ["  ".join(word.rjust(w) for word, w in zip(row, widths, strict=True)) for row in rows]
    together = geometric_mean(line.by["peer"].middle for line in measured)
    misjudged = median(run.outrider[MISJUDGED] for run in runs if MISJUDGED in run.outrider)
    return "\n".join(
        [
            f"Speculative decoding with {pair_of(results)}: tokens/s of plain decoding,",
            "adaptive / plain, / the best fixed length, / llama-server's best way;",
            "for one stream, its speed-up / the bound of costs and acceptance; !: below its goal",
            text[0],
            "-" * len(text[0]),
            *text[1:],
            f"adaptive / llama-server's best, geometric mean: {together:.2f} (goal >= 1.00)",
            f"decoding time was forecast with an error of {misjudged:.1%}",
        ]
    )


def pair_of(results: Results) -> str:
    """The name of the pair."""
    return f"the pair {results.settings.get('pair', FIRST_PAIR)}"


def _cells(line: Line) -> tuple[str, ...]:
    ratios = {name: _marked(by.middle, GOALS[name]) for name, by in line.by.items()}
    return (
        str(line.cell.streams),
        line.cell.kind,
        f"{line.cell.temperature:g}",
        f"{line.plain:.1f}",
        ratios["plain"],
        ratios["fixed"],
        line.fixed,
        ratios["peer"],
        line.peer,
        "" if line.bound is None else _marked(line.bound, BOUND_GOAL),
        f"{line.same:.0%}",
    )


def _marked(ratio: float, goal: float) -> str:
    return f"{ratio:.2f}{'!' if ratio < goal else ' '}"
