"""How is a grammar worded that allows nothing but tool calls? In Lark, as llguidance reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final

from ..conversation import Tool
from ..tool_definition import mapping, name_of, schema_of, sequence
from .coercion import types_of
from .markers import split_at

CallGrammar = Callable[[Sequence[Tool], Container[str]], str]  # ParserFamily.call_grammar
NOTHING: Final = ("", "")
NUMBER: Final = "/[0-9]{1,4}/"  # of a call; without a bound it could fill the whole context
TEXT: Final = "text"  # the rule of a text that is not quoted
# The blanks that the runner allows in JSON (GUIDE 7.4); keywords that llguidance lacks are ignored,
# because a tool that is described too finely must still be callable.
_GUIDANCE: Final = {
    "whitespace_flexible": True,
    "whitespace_pattern": r"[ \n\t]{0,24}",
    "lenient": True,
}


def object_grammar(
    *,
    markers: Sequence[str] = (),
    keys: tuple[str, str] = ("name", "arguments"),
    around: tuple[str, str] = NOTHING,
    each: tuple[str, str] = NOTHING,
    between: str = ", ",
) -> CallGrammar:
    """Calls as JSON objects with these keys for the name and the arguments.

    `around`, `each` and `between` are as in join_calls.
    """

    def grammar(tools: Sequence[Tool], special: Container[str]) -> str:
        calls = [call(tool) for tool in tools]
        return join_calls(calls, markers, special, around=around, each=each, between=between)

    def call(tool: Tool) -> str:
        head = f'{{"{keys[0]}": {quoted(name_of(tool))}, "{keys[1]}": '
        return f"{literal(head)} {arguments_value(tool)} {literal('}')}"

    return grammar


def join_calls(
    calls: Sequence[str],
    markers: Iterable[str],
    special: Container[str],
    *,
    around: tuple[str, str] = NOTHING,
    each: tuple[str, str] = NOTHING,
    between: str = "",
    text_end: str = "",
) -> str:
    """A grammar of one call or more, any of `calls`.

    Two texts stand `around` all calls, two around `each` of them, and one `between` them. Texts
    that are not quoted end with `text_end`.
    """
    markers = tuple(markers)
    names = [f"call_{number}" for number in range(len(calls))]
    before, after = (literal(text, markers, special) for text in around)
    first, last = (literal(text, markers, special) for text in each)
    more = f"({literal(between)} call)*" if between else "call*"
    return "\n".join(
        [
            f"start: {before} call {more} {after}",
            f"call: {first} ({' | '.join(names)}) {last}",
            *(f"{name}: {call}" for name, call in zip(names, calls, strict=True)),
            *([_text_rule(text_end, special)] if text_end else []),
        ]
    )


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
        parts += [quoted(before)] if before else []
        parts += [marker] if marker else []
        text = rest
    return " ".join(parts)


def quoted(text: str) -> str:
    """A text as JSON writes it, and Lark too."""
    return json.dumps(text, ensure_ascii=False)


def arguments_value(tool: Tool) -> str:
    """A JSON object that follows the schema of a tool's arguments (any object, if it has none)."""
    schema = schema_of(tool)
    closed = {"additionalProperties": False} if _lists_all(schema) else {}
    return _json({**closed, **schema, "type": "object"})


def property_value(described: object, schema: Mapping[str, object]) -> str:
    """A JSON value of one property of a schema, to whose definitions the property may refer."""
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return _json({**shared, **mapping(described)})


def text_value(
    described: object, schema: Mapping[str, object], end: str, special: Container[str] = ()
) -> str:
    """The value of one property and the text that ends it, where strings are not quoted.

    `end` is the `text_end` of join_calls.
    """
    types = set(types_of(described, schema))
    if types and "string" not in types:
        return f"{property_value(described, schema)} {literal(end, (end,), special)}"
    values = sequence(mapping(described).get("enum"))
    texts = [literal(value) for value in values if isinstance(value, str)]
    return f"({' | '.join(texts)}) {literal(end, (end,), special)}" if texts else TEXT


def in_order(schema: Mapping[str, object], word: Callable[[str, object], str]) -> list[str]:
    """The properties of a schema in their order, each worded from its name and description.

    Those that are not required may be left out.
    """
    required = sequence(schema.get("required"))
    parts = {name: word(name, d) for name, d in mapping(schema.get("properties")).items()}
    return [part if name in required else f"({part})?" for name, part in parts.items()]


def _lists_all(schema: Mapping[str, object]) -> bool:
    """Whether the schema names all properties itself, so that no others are wanted."""
    elsewhere = ("$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas")
    return "properties" in schema and not any(key in schema for key in elsewhere)


def _json(schema: Mapping[str, object]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": _GUIDANCE}, ensure_ascii=False)


def _text_rule(end: str, special: Container[str]) -> str:
    if end in special:
        return f"{TEXT}: /(?s:.*)/ {end}"
    return f"{TEXT}[suffix={json.dumps(end)}]: /(?s:.*)/"
