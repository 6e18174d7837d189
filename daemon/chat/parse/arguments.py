"""Which tool calls, with which arguments, does a JSON text hold, also if it is slightly broken?"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from ..conversation import ToolCall

NAME_KEYS = ("name", "tool_name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
LITERALS = {"True": "true", "False": "false", "None": "null"}  # of Python -> of JSON
CLOSERS = {"{": "}", "[": "]"}
INTEGERS = range(-(2**63), 2**64)  # what MessagePack, in which calls travel, can carry

_BLANKS = re.compile(r"\s*")
_BETWEEN_CALLS = re.compile(r"[\s;,]*")
_LEFT_OVER = re.compile(r"[\s;,}\]]*")  # models write a closing bracket too many
_WORD = re.compile(r"[^\s,:{}\[\]\"']+")
_DANGLING_COMMA = re.compile(r",\s*(?=[}\]]|$)")
_IN_STRING = re.compile(r"[^\\\"'\x00-\x1f]+")
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_arguments(text: str) -> dict[str, object] | None:
    """The arguments that an object holds, or None if it stays broken. A blank text has none."""
    if not text.strip():
        return {}
    found = read_value(text)
    if found is None or _LEFT_OVER.fullmatch(text, found[1]) is None:
        return None
    return _object(found[0])


def read_calls(text: str) -> list[ToolCall]:
    """The calls of a text that holds nothing else. It is empty if any of them is broken."""
    calls, rest = split_calls(text)
    return [] if rest else calls


def split_calls(text: str) -> tuple[list[ToolCall], str]:
    """The calls with which a text begins, and the text after them.

    A call is {"name", "arguments"}, with "parameters" as another word for the second, or
    {"function": {...}} around it. Calls stand in an array, or one after the other, with blanks,
    commas or semicolons between them.
    """
    calls: list[ToolCall] = []
    end = at = _end_of(_BETWEEN_CALLS, text, 0)
    while text[at : at + 1] in CLOSERS:
        found = read_value(text, at)
        new = [] if found is None else calls_of(found[0], whole=text[found[1] - 1] in "}]")
        if found is None or not new:
            break
        calls += new
        end, at = found[1], _end_of(_BETWEEN_CALLS, text, found[1])
    if not calls:
        return [], text
    return calls, "" if _LEFT_OVER.fullmatch(text, end) else text[end:]


def calls_of(value: object, *, whole: bool = True) -> list[ToolCall]:
    """The calls for which a JSON value stands. It is empty if any of them is broken.

    A call without arguments must be `whole`: in one that was cut off they were still to come.
    """
    values = value if isinstance(value, list) else [value]
    calls = [_call(each, whole=whole) for each in values]
    found = [call for call in calls if call is not None]
    return found if len(found) == len(calls) else []


def read_value(text: str, at: int = 0) -> tuple[object, int] | None:
    """The JSON value at a place of a text, and the place after it. None if it stays broken.

    Repaired are raw line breaks and tabs in strings, commas before a closing bracket, single
    quotes, the literals of Python, and quotes and brackets that are missing at the end.
    """
    at = _end_of(_BLANKS, text, at)
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        repaired, end = _repair(text, at)
        try:
            value = _DECODER.decode(repaired)
        except (ValueError, RecursionError):
            return None
    return _encodable(value), end


def plain(value: object) -> object:
    """A value as JSON has it. Raises ValueError, TypeError or RecursionError if JSON lacks it."""
    return _encodable(_DECODER.decode(json.dumps(value)))


def _call(value: object, *, whole: bool) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    inner = value["function"] if isinstance(value.get("function"), dict) else value
    name = next((n for key in NAME_KEYS if isinstance(n := inner.get(key), str) and n), None)
    written = next((inner[key] for key in ARGUMENT_KEYS if key in inner), None)
    arguments = read_arguments(written) if isinstance(written, str) else _object(written)
    if name is None or arguments is None or not (whole or written):
        return None
    id_ = value.get("id")
    return ToolCall(name, arguments, id_ if isinstance(id_, str) else "")


def _object(value: object) -> dict[str, object] | None:
    """Arguments. Absent ones are none; what is no object is broken."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def _repair(text: str, at: int) -> tuple[str, int]:
    """The value at a place as better JSON, and the place after it, in one pass over the text."""
    parts: list[str] = []
    missing: list[str] = []  # the brackets that are still to be closed, the innermost last
    while at < len(text):
        start, char = at, text[at]
        at += 1
        if char in "\"'":
            part, at = _string(text, start)
        elif char in CLOSERS:
            part = char
            missing.append(CLOSERS[char])
        elif missing and char == missing[-1]:
            part = missing.pop()
        elif comma := _DANGLING_COMMA.match(text, start):
            part, at = "", comma.end()
        elif word := _WORD.match(text, start):
            part, at = LITERALS.get(word[0], word[0]), word.end()
        else:
            part = char
        parts.append(part)
        if not missing:
            break
    return "".join(parts + missing[::-1]), at


def _string(text: str, at: int) -> tuple[str, int]:
    """The string at a place as JSON, and the place after it."""
    quote, parts = text[at], ['"']
    at += 1
    while at < len(text) and text[at] != quote:
        if run := _IN_STRING.match(text, at) or _ESCAPE.match(text, at):
            parts.append(run[0])
            at = run.end()
        elif text.startswith("\\'", at):
            parts.append("'")
            at += 2
        else:
            parts.append("'" if text[at] == "'" else json.dumps(text[at])[1:-1])
            at += 1
    return "".join([*parts, '"']), min(at + 1, len(text))


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _encodable(value: object) -> object:
    """The value with lone surrogates, which UTF-8 cannot carry, replaced by question marks."""
    text = json.dumps(value, ensure_ascii=False)
    if _SURROGATE.search(text) is None:
        return value
    return json.loads(_SURROGATE.sub("?", text))


def _integer(text: str) -> int | float:
    value = int(text)
    return value if value in INTEGERS else _finite(text)


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is out of range")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_finite, parse_constant=_refuse)
