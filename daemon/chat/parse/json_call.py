"""How is a forced tool call read that is one JSON object with the tool's name and arguments?"""

from __future__ import annotations

import json

import msgspec

from ..conversation import ToolCall
from .parser import OutputParser, Parsed, Region


class JsonCallParser:
    """An OutputParser of `{"name": ..., "arguments": {...}}`, the schema of forced.calls_schema.

    The model's own parser takes the thoughts before it away. A text that is no such object, because
    it was cut off for example, is content.
    """

    def __init__(self, inner: OutputParser) -> None:
        self._inner = inner
        self._text = ""

    @property
    def region(self) -> Region:
        return self._inner.region

    def push(self, text: str) -> Parsed:
        return self._hold(self._inner.push(text))

    def finish(self) -> Parsed:
        last = self._hold(self._inner.finish())
        call = _read_call(self._text)
        return last + (Parsed(tool_calls=(call,)) if call else Parsed(self._text))

    def _hold(self, parsed: Parsed) -> Parsed:
        self._text += parsed.content
        calls = tuple(map(_unwrap, parsed.tool_calls))
        return Parsed(thinking=parsed.thinking, tool_calls=calls)


def _unwrap(call: ToolCall) -> ToolCall:
    """The call inside one in the model's own format, which the grammar cannot prevent there."""
    inner = _call_of(call.arguments)
    return msgspec.structs.replace(inner, id=call.id, index=call.index) if inner else call


def _read_call(text: str) -> ToolCall | None:
    try:
        return _call_of(json.loads(text))
    except ValueError:
        return None


def _call_of(value: object) -> ToolCall | None:
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        return None
    name, arguments = value["name"], value["arguments"]
    if isinstance(name, str) and isinstance(arguments, dict):
        return ToolCall(name, arguments)
    return None
