"""How are the results drawn: every ratio and goal in one SVG?

Two panels with one logarithmic axis each. In the first, a dot is the median ratio Outrider/peer; in
the second, Outrider's own figure relative to its bound. The line through it spans the runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from .report import Finding, Results, Spread, find
from .speculation_table import GOALS, lines, pair_of

WIDTH, LABELS, FIGURES = 1020, 290, 190  # pixels: all, names on the left, numbers on the right
LINE, HEAD, FOOT = 24, 74, 30  # pixels: a row, above the rows of a panel, below them
TOP = 62  # pixels: title
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
MET, MISSED, PLAIN = "#0b7a55", "#c8401f", "#4a5a6a"
INK, FAINT, GRID = "#1b2733", "#66727f", "#e3e7eb"


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of a panel."""

    label: str
    spread: Spread
    goal: float | None
    wants_more: bool
    is_met: bool | None
    figure: str


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    dots: Sequence[Dot]

    @property
    def height(self) -> int:
        return HEAD + LINE * len(self.dots) + FOOT


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis, from left to right."""

    low: float
    high: float

    def x(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return LABELS + min(max(share, 0.0), 1.0) * (WIDTH - LABELS - FIGURES)


def _speculation(results: Results) -> list[Dot]:
    """Adaptive speculation against each baseline, cell by cell."""
    return [
        Dot(
            f"{line.cell.streams} {line.cell.kind} {line.cell.temperature:g}, by {name}",
            by,
            GOALS[name],
            True,
            by.middle >= GOALS[name],
            f"{by.middle:.2f}",
        )
        for line in lines(results.runs)
        for name, by in line.by.items()
    ]


def write_plot(results: Results, path: Path) -> None:
    path.write_text(draw(results), encoding="utf-8")


def draw(results: Results) -> str:
    """The plot as SVG text."""
    findings = find(results)
    ratios = [dot for finding in findings if (dot := _ratio(finding))]
    owns = [dot for finding in findings if (dot := _own(finding))]
    panels = [
        Panel("Outrider / llama-server", ratios),
        Panel("Outrider's own figure / its bound", owns),
        Panel(f"Adaptive / plain, fixed, llama-server: {pair_of(results)}", _speculation(results)),
    ]
    panels = [panel for panel in panels if panel.dots]
    height = TOP + sum(panel.height for panel in panels)
    parts = [*_title(results), *_panels(panels)]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _ratio(finding: Finding) -> Dot | None:
    if finding.ratio is None:
        return None
    goal = finding.row.goal if finding.row.goal and finding.row.goal.of_ratio else None
    wants_more = goal.at_least if goal else finding.row.unit == "tok/s"
    is_met = finding.is_met if goal else None
    label, figure = _label(finding), f"{finding.ratio.middle:.2f}"
    return Dot(label, finding.ratio, goal.bound if goal else None, wants_more, is_met, figure)


def _own(finding: Finding) -> Dot | None:
    goal, ours = finding.row.goal, finding.outrider
    if goal is None or goal.of_ratio:
        return None
    shares = Spread(ours.low / goal.bound, ours.middle / goal.bound, ours.high / goal.bound)
    figure = f"{ours.middle:.2f} of {goal.bound:g} {finding.row.unit}"
    return Dot(_label(finding), shares, 1.0, goal.at_least, finding.is_met, figure)


def _label(finding: Finding) -> str:
    return f"{finding.row.title} ({finding.row.unit})"


def _title(results: Results) -> Iterator[str]:
    machine = ", ".join(str(results.machine[key]) for key in ("cpu",) if key in results.machine)
    facts = f"{results.taken_at:%Y-%m-%d}, runs: {len(results.runs)}, {machine}"
    yield _text(20, 30, "Outrider beside llama-server", size=19, weight=600)
    yield _text(20, 50, facts, fill=FAINT)


def _panels(panels: Sequence[Panel]) -> Iterator[str]:
    top = TOP
    for panel in panels:
        yield from _panel(panel, top)
        top += panel.height


def _panel(panel: Panel, top: int) -> Iterator[str]:
    axis, first = _axis(panel.dots), top + HEAD
    bottom = first + LINE * len(panel.dots)
    yield _text(20, top + 32, panel.title, size=15, weight=600)
    yield _text(20, top + 50, "bracket: the goal, open to the better side", fill=FAINT, size=11)
    for tick in (tick for tick in TICKS if axis.low <= tick <= axis.high):
        x, colour = axis.x(tick), FAINT if tick == 1 else GRID
        yield _rule(x, first - 8, x, bottom, colour)
        yield _text(x, first - 14, f"{tick:g}", anchor="middle", fill=FAINT, size=11)
    for i, dot in enumerate(panel.dots):
        yield from _dot(dot, axis, first + LINE * i + LINE / 2)


def _dot(dot: Dot, axis: Axis, y: float) -> Iterator[str]:
    colour = {True: MET, False: MISSED, None: PLAIN}[dot.is_met]
    x = axis.x(dot.spread.middle)
    yield _text(LABELS - 14, y + 4, dot.label, anchor="end")
    if dot.goal is not None:
        yield _goal(axis.x(dot.goal), y, 5 if dot.wants_more else -5)
    yield _rule(axis.x(dot.spread.low), y, axis.x(dot.spread.high), y, colour, width=3)
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    verdict = {True: "met", False: "missed", None: ""}[dot.is_met]
    words = f"{dot.figure} {verdict}".strip()
    yield _text(WIDTH - FIGURES + 16, y + 4, words, fill=colour, weight=600, size=12)


def _goal(x: float, y: float, foot: int) -> str:
    """A bracket whose feet point to the better side."""
    path = f"M{x + foot:.1f} {y - 9:.1f}H{x:.1f}V{y + 9:.1f}H{x + foot:.1f}"
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.5"/>'


def _axis(dots: Sequence[Dot]) -> Axis:
    """The smallest range of ticks around all values."""
    goals = [dot.goal for dot in dots if dot.goal is not None]
    shown = [1.0, *goals, *(v for dot in dots for v in (dot.spread.low, dot.spread.high))]
    low = max((tick for tick in TICKS if tick < min(shown)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick > max(shown)), default=TICKS[-1])
    return Axis(low, high)


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width}" stroke-linecap="round"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    size: int = 13,
    weight: int = 400,
) -> str:
    style = f'text-anchor="{anchor}" fill="{fill}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
