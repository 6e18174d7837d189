"""How do the figures of a soak become a table and a drawing?"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 900, 200, 90, 34, 30  # pixels of one panel
COLOURS = ("#0b7a55", "#c8401f", "#2b5fa8", "#8a5a00", "#6b3fa0", "#4a5a6a")
INK, FAINT, GRID = "#1b2733", "#66727f", "#e3e7eb"

Points = Sequence[tuple[float, float]]  # seconds and a value


@dataclass(frozen=True, slots=True)
class SeriesPanel:
    """Lines over time with one axis, which begins at zero."""

    title: str
    unit: str
    lines: Mapping[str, Points]


def write_table(path: Path, panels: Sequence[SeriesPanel]) -> None:
    """A row for each point: panel, line, seconds, value."""
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("figure", "of", "seconds", "value"))
        for panel in panels:
            for name, points in panel.lines.items():
                rows.writerows((panel.title, name, f"{x:.2f}", f"{y:.6g}") for x, y in points)


def write_drawing(path: Path, panels: Sequence[SeriesPanel]) -> None:
    height = HEIGHT * len(panels)
    parts = [_panel(panel, HEIGHT * number) for number, panel in enumerate(panels)]
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n",
        encoding="utf-8",
    )


def _panel(panel: SeriesPanel, top: float) -> str:
    points = [point for line in panel.lines.values() for point in line]
    if not points:
        return ""
    last = max(x for x, _ in points) or 1.0
    most = max(y for _, y in points) * 1.1 or 1.0
    width, height = WIDTH - LEFT - 20, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + x / last * width:.1f},{top + TOP + height * (1 - y / most):.1f}"

    parts = [f'<text x="{LEFT}" y="{top + 16}" fill="{INK}">{escape(panel.title)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = top + TOP + height * (1 - share)
        parts.append(f'<path d="M{LEFT},{y:.1f}h{width}" stroke="{GRID}"/>')
        label = f"{most * share:.3g} {panel.unit}"
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{FAINT}">{label}</text>'
        )
    for number, (name, line) in enumerate(panel.lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        line_points = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{line_points}" fill="none" stroke="{colour}"/>')
        parts.append(
            f'<text x="{LEFT + 160 + 120 * number}" y="{top + 16}" fill="{colour}">'
            f"{escape(name)}</text>"
        )
    end = top + HEIGHT - 12
    parts.append(
        f'<text x="{WIDTH - 20}" y="{end}" text-anchor="end" fill="{FAINT}">{last:.0f} s</text>'
    )
    return "".join(parts)
