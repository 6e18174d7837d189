"""Which tool calls does a text in the call syntax of Python hold?"""

from __future__ import annotations

import re

from ..conversation import ToolCall
from .arguments import read_value

_NAME = re.compile(r"[\s,;]*([A-Za-z_][\w.\-/]*)\s*\(")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=")
_COMMA = re.compile(r"\s*,")
_END = re.compile(r"\s*(?:\)|$)")  # the output may have ended too early
_LEFT_OVER = re.compile(r"[\s,;\])]*")


def split_python_calls(text: str) -> tuple[list[ToolCall], str]:
    """The calls with which a text begins, as in `f(x="a", y=[1, None])`, and the text after them.

    Arguments have names, and literals of Python or JSON as values. Brackets around all calls are
    passed over. A broken call and what follows it belong to the text after the calls.
    """
    calls: list[ToolCall] = []
    end = len(text) - len(text.lstrip("[ \t\r\n"))
    while name := _NAME.match(text, end):
        found = _arguments(text, name.end())
        if found is None:
            break
        calls.append(ToolCall(name[1], found[0]))
        end = found[1]
    if not calls:
        return [], text
    return calls, "" if _LEFT_OVER.fullmatch(text, end) else text[end:]


def _arguments(text: str, at: int) -> tuple[dict[str, object], int] | None:
    """The arguments from behind the bracket on, and the place after its end."""
    arguments: dict[str, object] = {}
    while (end := _END.match(text, at)) is None:
        key = _KEY.match(text, at)
        value = None if key is None else read_value(text, key.end())
        if key is None or value is None:
            return None
        arguments[key[1]], at = value
        comma = _COMMA.match(text, at)
        if comma is None and _END.match(text, at) is None:
            return None
        at = at if comma is None else comma.end()
    return arguments, end.end()
