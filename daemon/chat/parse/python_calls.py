"""Which tool calls does a text in Python's call syntax hold?"""

from __future__ import annotations

from collections.abc import Sequence

from ..conversation import Tool
from .call_blocks import Call
from .coercion import mapping, parameters_of
from .literals import LiteralReader, Unreadable


def read_python_calls(text: str, tools: Sequence[Tool]) -> Sequence[Call]:
    """The calls in `[f(a="x"), g(1)]`, with or without the brackets; none if it is anything else.

    Positional arguments take the names of the tool's parameters in their order.
    """
    try:
        return _calls(LiteralReader(text), tools)
    except Unreadable:
        return ()


def _calls(reader: LiteralReader, tools: Sequence[Tool]) -> Sequence[Call]:
    calls = []
    listed = reader.accept("[")
    while reader.peek() not in ("", "]"):
        calls.append(_call(reader, tools))
        reader.accept(",") or reader.accept(";")
    if (listed and not reader.accept("]")) or reader.peek():
        raise Unreadable
    return calls


def _call(reader: LiteralReader, tools: Sequence[Tool]) -> Call:
    name = reader.word()
    if not reader.accept("("):
        raise Unreadable
    parameters = iter(mapping(parameters_of(name, tools).get("properties")))
    arguments: dict[str, object] = {}
    while not reader.accept(")"):
        key = reader.keyword() or next(parameters, "")
        if not key:
            raise Unreadable
        arguments[key] = reader.value()
        if not reader.accept(",") and reader.peek() != ")":
            raise Unreadable
    return name, arguments
