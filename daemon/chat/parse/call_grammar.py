"""How a grammar is worded that allows nothing but tool calls: Lark, as llguidance reads it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

from .markers import split_at

# The blanks that the runner allows in JSON (GUIDE 7.3); keywords that llguidance lacks are ignored,
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
    known = schema if isinstance(schema, Mapping) else {}
    return json_of({"additionalProperties": False, **known, "type": "object"} if known else {})


def json_of(schema: Mapping[str, object]) -> str:
    """A JSON value that follows the schema."""
    described = {**(schema or {"type": "object"}), "x-guidance": _GUIDANCE}
    return "%json " + json.dumps(described, ensure_ascii=False)


def join_calls(
    calls: Sequence[str],
    before: str,
    after: str,
    markers: Iterable[str],
    special: Container[str],
    between: str = "\n",
) -> str:
    """A grammar of one call or more. Each stands between the two texts, any of `calls` in it."""
    markers = tuple(markers)
    names = [f"call_{number}" for number in range(len(calls))]
    rules = [f"{name}: {call}" for name, call in zip(names, calls, strict=True)]
    first, last = literal(before, markers, special), literal(after, markers, special)
    return "\n".join(
        [
            f"start: call ({literal(between)} call)*" if between else "start: call+",
            f"call: {first} ({' | '.join(names)}) {last}",
            *rules,
        ]
    )
