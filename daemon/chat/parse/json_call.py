"""How is a forced tool call read that is one JSON object with the tool's name and arguments?"""

from __future__ import annotations

import json

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
        return Parsed(thinking=parsed.thinking, tool_calls=parsed.tool_calls)


def _read_call(text: str) -> ToolCall | None:
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if not isinstance(call, dict):
        return None
    name, arguments = call.get("name"), call.get("arguments")
    if isinstance(name, str) and isinstance(arguments, dict):
        return ToolCall(name, arguments)
    return None
