"""How a grammar is worded that allows nothing but tool calls: Lark, as llguidance reads it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

from ..tool_definition import mapping
from .markers import split_at

TEXT: Final = "text"  # the rule of a text that is not quoted
OBJECT: Final = {"type": "object"}
# The blanks that the runner allows in JSON (GUIDE 7.4); keywords that llguidance lacks are ignored,
# because a tool that is described too finely must still be callable.
_GUIDANCE: Final = {
    "whitespace_flexible": True,
    "whitespace_pattern": r"[ \n\t]{0,24}",
    "lenient": True,
}


def literal(text: str, markers: Iterable[str] = (), special: Container[str] = ()) -> str:
    """A text, in which the markers that are special tokens are named as such.

    llguidance never matches a special token (one that the vocabulary calls a control token) by its
    text, and any other token only by its text.
    """
    named = [marker for marker in markers if marker in special]
    parts = []
    while text:
        before, marker, rest = split_at(text, named)
        if not marker:
            before, rest = text, ""
        parts += [json.dumps(before, ensure_ascii=False)] if before else []
        parts += [marker] if marker else []
        text = rest
    return " ".join(parts)


def json_value(schema: object) -> str:
    """A JSON object that follows the schema of a tool's arguments (any object, if it has none)."""
    known = mapping(schema)
    closed = {"additionalProperties": False} if _lists_all(known) else {}
    return _json({**closed, **known, **OBJECT})


def _lists_all(schema: Mapping[str, object]) -> bool:
    """Whether the schema names all properties itself, so that no others are wanted."""
    elsewhere = ("$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas")
    return "properties" in schema and not any(key in schema for key in elsewhere)


def value_of(schema: object, root: Mapping[str, object]) -> str:
    """A JSON value that follows one property of the schema `root`, to whose parts it may refer."""
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
    return _json({**shared, **mapping(schema)})


def _json(schema: Mapping[str, object]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": _GUIDANCE}, ensure_ascii=False)


def text_or_enum(schema: object, end: str, special: Container[str] = ()) -> str:
    """A text that is not quoted, up to the text that ends it; see `text_end` of `join_calls`."""
    values = mapping(schema).get("enum")
    texts = (
        [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
    )
    if not texts:
        return TEXT
    return f"({' | '.join(map(literal, texts))}) {literal(end, (end,), special)}"


def join_calls(
    calls: Sequence[str],
    before: str,
    after: str,
    markers: Iterable[str],
    special: Container[str],
    *,
    between: str = "\n",
    text_end: str = "",
) -> str:
    """A grammar of one call or more. Each stands between the two texts, any of `calls` in it.

    `text_end` ends the texts that are not quoted.
    """
    markers = tuple(markers)
    names = [f"call_{number}" for number in range(len(calls))]
    rules = [f"{name}: {call}" for name, call in zip(names, calls, strict=True)]
    first, last = literal(before, markers, special), literal(after, markers, special)
    repeated = f"({literal(between)} call)*" if between else "call*"
    return "\n".join(
        [
            f"start: call {repeated}",
            f"call: {first} ({' | '.join(names)}) {last}",
            *rules,
            *([_text_rule(text_end, special)] if text_end else []),
        ]
    )


def _text_rule(end: str, special: Container[str]) -> str:
    if end in special:
        return f"{TEXT}: /(?s:.*)/ {end}"
    return f"{TEXT}[suffix={json.dumps(end)}]: /(?s:.*)/"
