"""How are tables shown in the terminal: left aligned, four-space gutters, no rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from . import humanize
from .client import Json

GUTTER = " " * 4
STORED = ("NAME", "ID", "SIZE", "MODIFIED")
LOADED = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
DRAFTER = "DRAFTER"  # this column is left out if no model has a drafter, as in Ollama's table


def render(rows: Iterable[Sequence[str]]) -> str:
    """Lines of aligned columns; all rows have the same number of cells."""
    cells = [tuple(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = (
        GUTTER.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def stored(answer: Json, prefix: str, now: datetime) -> str:
    """`outrider list`: the models of GET /api/tags whose name starts with prefix."""
    return render([STORED, *(_stored_row(model, now) for model in chosen(answer, prefix))])


def loaded(answer: Json, prefix: str, now: datetime) -> str:
    """`outrider ps`: the models of GET /api/ps whose name starts with prefix."""
    models = chosen(answer, prefix)
    rows = [LOADED, *(_loaded_row(model, now) for model in models)]
    if any("speculation" in model for model in models):
        column = [DRAFTER, *(_speculation(model.get("speculation")) for model in models)]
        rows = [(*row, cell) for row, cell in zip(rows, column, strict=True)]
    return render(rows)


def chosen(answer: Json, prefix: str) -> list[Json]:
    """The models of an answer whose name starts with prefix, whatever its case."""
    models = answer.get("models") or []
    return [model for model in models if model["name"].lower().startswith(prefix.lower())]


def _stored_row(model: Json, now: datetime) -> Sequence[str]:
    size = "-" if model.get("remote_model") else humanize.size(model.get("size", 0))
    modified = _time(model.get("modified_at"), now, humanize.relative_time)
    return model["name"], _short(model), size, modified


def _loaded_row(model: Json, now: datetime) -> Sequence[str]:
    size_bytes = model.get("size", 0)
    return (
        model["name"],
        _short(model),
        humanize.size(size_bytes),
        humanize.processor(size_bytes, model.get("size_vram", 0)),
        str(model.get("context_length") or "-"),
        _time(model.get("expires_at"), now, humanize.until),
    )


def _speculation(speculation: Json | None) -> str:
    """Drafters, acceptance rate, mean draft length, speedup: "ngram 41% of 3.2, 1.20x"."""
    if speculation is None:
        return "-"
    names = "+".join(speculation["drafters"]) or "none"
    if refusal := speculation.get("refusal"):
        names += f" ({refusal})"
    if not (drafted := speculation["drafted"]):
        return names
    share, length = speculation["accepted"] / drafted, speculation["mean_length"]
    return f"{names} {share:.0%} of {length:.1f}, {speculation['estimated_speedup']:.2f}x"


def _short(model: Json) -> str:
    return str(model.get("digest", ""))[:12] or "-"


def _time(text: object, now: datetime, in_words: Callable[[datetime, datetime], str]) -> str:
    """An RFC 3339 time in words, or "-" if it is missing or invalid."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return "-"
    return in_words(moment, now) if moment.tzinfo else "-"
