"""Which tool calls does a text hold, in JSON or in the call syntax of Python?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import mapping, parameters_of
from .values import Unreadable, ValueReader, value_at

NAME_KEYS = ("name", "tool_name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")

_BETWEEN_CALLS = re.compile(r"[\s;,]*")
_LEFT_OVER = re.compile(r"[\s;,}\])]*")  # models write a closing bracket too many


def read_arguments(text: str) -> dict[str, object] | None:
    """The arguments that an object holds, or None if it stays broken. A blank text has none."""
    if not text.strip():
        return {}
    try:
        value, end = value_at(text, cut_strings=True)
    except Unreadable:
        return None
    return value if isinstance(value, dict) and _LEFT_OVER.fullmatch(text, end) else None


def split_json_calls(text: str, *, cut_strings: bool = True) -> tuple[list[ToolCall], str]:
    """The calls with which a text begins, and the text after them.

    A call is {"name", "arguments"}, with "parameters" as another word for the second, or
    {"function": {...}} around it. Calls stand in an array, or one after the other, with blanks,
    commas or semicolons between them. `cut_strings` is as in ValueReader.
    """
    calls: list[ToolCall] = []
    end = at = _end_of(_BETWEEN_CALLS, text, 0)
    while text.startswith(("{", "["), at):
        try:
            value, after = value_at(text, at, cut_strings=cut_strings)
        except Unreadable:
            break
        new = _calls_of(value, is_whole=text[after - 1] in "}]")
        if not new:
            break
        calls += new
        end, at = after, _end_of(_BETWEEN_CALLS, text, after)
    return calls, _after_calls(text, end if calls else 0)


def split_python_calls(text: str, tools: Sequence[Tool] = ()) -> tuple[list[ToolCall], str]:
    """The calls with which a text begins, as in `f(x="a", y=[1, None])`, and the text after them.

    Values are literals of Python or JSON; those without a name take the names of the tool's
    parameters in their order. Brackets around all calls are passed over. A broken call and what
    follows it belong to the text after the calls.
    """
    calls: list[ToolCall] = []
    reader = ValueReader(text)
    reader.accept("[")
    end = reader.place
    while reader.peek():
        try:
            calls.append(_python_call(reader, tools))
        except Unreadable:
            break
        end = reader.place
        reader.accept(",") or reader.accept(";")
    return calls, _after_calls(text, end if calls else 0)


def _calls_of(value: object, *, is_whole: bool) -> list[ToolCall]:
    """The calls for which a JSON value stands. It is empty if any of them is broken.

    A call without arguments must be whole: in one that was cut off they were still to come.
    """
    values = value if isinstance(value, list) else [value]
    calls = [_json_call(mapping(each), is_whole=is_whole) for each in values]
    found = [call for call in calls if call is not None]
    return found if len(found) == len(calls) else []


def _json_call(value: Mapping[str, object], *, is_whole: bool) -> ToolCall | None:
    inner = mapping(value.get("function")) or value
    name = next((n for key in NAME_KEYS if isinstance(n := inner.get(key), str) and n), None)
    written = next((inner[key] for key in ARGUMENT_KEYS if key in inner), None)
    arguments = read_arguments(written) if isinstance(written, str) else written or {}
    if name is None or not isinstance(arguments, dict) or not (is_whole or written):
        return None
    id_ = value.get("id")
    return ToolCall(name, arguments, id_ if isinstance(id_, str) else "")


def _python_call(reader: ValueReader, tools: Sequence[Tool]) -> ToolCall:
    """The call that comes next. Raises Unreadable."""
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
    return ToolCall(name, arguments)


def _after_calls(text: str, end: int) -> str:
    return "" if end and _LEFT_OVER.fullmatch(text, end) else text[end:]


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
