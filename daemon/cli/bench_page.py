"""How are the figures of `outrider bench` shown on one self-contained HTML page?"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .bench import BenchResult, mode_label
from .bench_prompts import ADAPTIVE, PLAIN

WIDTH, LABEL, BAR, GAP = 760, 170, 16, 10  # pixels
COLOURS = {PLAIN: "#8a97a3", ADAPTIVE: "#0b7a55"}
FIXED_COLOUR = "#5b8fd6"
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b2733}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}"
    "tr:nth-child(even){background:#f3f5f7}h2{margin-top:2rem}text{font:12px system-ui}"
)


def render(model: str, drafters: str, rows: Sequence[Sequence[BenchResult]]) -> str:
    """The page. A row has the results of one prompt in every mode, plain decoding first."""
    streams = sorted({row[0].cell.streams for row in rows})
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(model)}</title>",
        f"<style>{STYLE}</style><h1>{escape(model)}: speculative decoding</h1>",
        f"<p>Drafters: {escape(drafters)}. Bars are decoding speed against plain decoding "
        "(1.00); grey is plain, blue a fixed draft length, green adaptive.</p>",
    ]
    for number in streams:
        parts.append(f"<h2>{number} {'stream' if number == 1 else 'streams'}</h2>")
        own = [row for row in rows if row[0].cell.streams == number]
        parts.extend(_plot(row) for row in own)
    parts.append("<h2>All figures</h2>" + _table(rows))
    return "\n".join(parts) + "\n"


def _plot(row: Sequence[BenchResult]) -> str:
    """A bar for each mode, and a line at the speed of plain decoding."""
    cell, most = row[0].cell, max(1.0, *(result.ratio for result in row))
    scale = (WIDTH - LABEL - 130) / most
    height = len(row) * (BAR + GAP) + GAP
    x = f"{LABEL + scale:.1f}"
    marks = [f'<line x1="{x}" x2="{x}" y2="{height}" stroke="#aaa"/>']
    for i, result in enumerate(row):
        y, length, mode = GAP + i * (BAR + GAP), result.ratio * scale, result.cell.mode
        colour = COLOURS.get(mode, FIXED_COLOUR)
        marks.append(
            f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{mode_label(mode)}</text>'
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 12}">{_figure(result)}</text>'
        )
    title = f"{cell.kind}, temperature {cell.temperature:g}"
    return (
        f"<h3>{title}</h3><svg width={WIDTH} height={height} role=img "
        f'aria-label="{title}">{"".join(marks)}</svg>'
    )


def _figure(result: BenchResult) -> str:
    share = "" if result.acceptance is None else f", {result.acceptance:.0%} accepted"
    return f"{result.ratio:.2f}x, {result.tokens_per_s:.1f} tok/s{share}"


def _table(rows: Sequence[Sequence[BenchResult]]) -> str:
    names = [result.cell.mode for result in rows[0]] if rows else []
    head = "".join(f"<th>{name}</th>" for name in ("streams", "prompt", "temperature", *names))
    body = ""
    for row in rows:
        cell = row[0].cell
        figures = "".join(f"<td>{_figure(result)}</td>" for result in row)
        start = f"<td>{cell.streams}</td><td>{cell.kind}</td><td>{cell.temperature:g}</td>"
        body += f"<tr>{start}{figures}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"
