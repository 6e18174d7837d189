"""How does `outrider show` present a model (CONTRACT 1.14 and 10.2)?"""

from __future__ import annotations

from collections.abc import Sequence

from . import humanize, table
from .client import Json

PARTS = ("license", "modelfile", "parameters", "system", "template")  # shown alone, on request
INDENT = "  "
TEXT_LINES = 2  # of the system text and of the license
SHOWN_ITEMS = 3  # of a list in the metadata

Rows = Sequence[Sequence[str]]


def render(shown: Json, verbose: bool) -> str:
    """The answer of POST /api/show as indented sections; empty ones are left out."""
    sections: list[tuple[str, Rows]] = [
        ("Model", _model(shown)),
        ("Warnings", [(sentence,) for sentence in shown.get("warnings") or ()]),
        ("Capabilities", [(name,) for name in shown.get("capabilities") or ()]),
        ("Projector", _projector(shown.get("projector_info") or {})),
        ("Parameters", _parameters(shown)),
    ]
    if verbose:
        metadata = sorted((shown.get("model_info") or {}).items())
        tensors = shown.get("tensors") or ()
        sections += [
            ("Metadata", [(key, _value(value)) for key, value in metadata]),
            ("Tensors", [(t["name"], t["type"], str(t["shape"])) for t in tensors]),
        ]
    sections += [
        ("System", _first(shown.get("system"))),
        ("License", _first(shown.get("license"))),
    ]
    return "\n\n".join(_section(title, rows) for title, rows in sections if rows)


def _section(title: str, rows: Rows) -> str:
    lines = table.render(rows).splitlines()
    return "\n".join([INDENT + title, *(INDENT * 2 + line for line in lines)])


def _model(shown: Json) -> Rows:
    details, info = shown.get("details") or {}, shown.get("model_info") or {}
    architecture = info.get("general.architecture") or details.get("family")
    rows = (
        ("architecture", architecture),
        ("parameters", _count(info) or details.get("parameter_size")),
        ("context length", info.get(f"{architecture}.context_length")),
        ("embedding length", info.get(f"{architecture}.embedding_length")),
        ("quantization", details.get("quantization_level")),
        ("requires", shown.get("requires")),
    )
    return _filled(rows)


def _count(info: Json) -> str:
    parameters = info.get("general.parameter_count")
    return humanize.count(parameters) if parameters else ""


def _projector(info: Json) -> Rows:
    architecture = info.get("general.architecture")
    rows = (
        ("architecture", architecture),
        ("parameters", _count(info)),
        ("embedding length", info.get(f"{architecture}.vision.embedding_length")),
        ("dimensions", info.get(f"{architecture}.vision.projection_dim")),
    )
    return _filled(rows)


def _filled(rows: Sequence[tuple[str, object]]) -> Rows:
    return [(name, str(value)) for name, value in rows if value]


def _parameters(shown: Json) -> Rows:
    """One row per value: the lines of the answer are "name   value"."""
    lines = [line.split(None, 1) for line in str(shown.get("parameters") or "").splitlines()]
    return [(line[0], line[1] if len(line) == 2 else "") for line in lines if line]


def _value(value: object) -> str:
    """One value of the GGUF header; a long list shows its beginning and its length."""
    if not isinstance(value, list):
        return str(value)
    more = ["..."] if len(value) > SHOWN_ITEMS else []
    text = ", ".join([*map(str, value[:SHOWN_ITEMS]), *more])
    return f"[{text}] ({len(value)} items)" if more else f"[{text}]"


def _first(text: object) -> Rows:
    """The first lines that are not empty, and "..." if there are more."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    more = ["..."] if len(lines) > TEXT_LINES else []
    return [(line,) for line in [*lines[:TEXT_LINES], *more]]
