"""Which value does a model mean that writes JSON or Python, not always well?

Every value can be sent on: MessagePack has no integers over 64 bits, and UTF-8 no lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

INTEGERS: Final = range(-(2**63), 2**64)  # that MessagePack has
MAX_DEPTH: Final = 100  # nested lists and objects; JSON of a tool call has a few
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
# A string up to its end, or up to that of the text.
_DOUBLE = r'"[^"\\]*(?:\\.[^"\\]*)*'
_SINGLE = _DOUBLE.replace('"', "'")
_STRINGS: Final = {
    '"': re.compile(rf'{_DOUBLE}(?:(?P<closed>")|\\?\Z)', re.DOTALL),
    "\"'": re.compile(rf"(?:{_DOUBLE}|{_SINGLE})(?:(?P<closed>[\"'])|\\?\Z)", re.DOTALL),
}
_WORD = re.compile(r"[^\W\d][\w./-]*")
_KEYWORD = re.compile(r"([^\W\d][\w.-]*)\s*=(?!=)")
# fmt: off
_CONSTANTS: Final = {
    "true": True, "false": False, "null": None,  # of JSON
    "True": True, "False": False, "None": None,  # of Python
}
# fmt: on
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\n": ""}
_CLOSERS: Final = {"{": "}", "[": "]", "(": ")"}
_CODES: Final = {"x": 2, "u": 4, "U": 8}  # hexadecimal digits after the escape


class Unreadable(ValueError):
    """The text holds no value, or one that is cut off."""


class ValueReader:
    """Reads values one after the other. What it forgives: single quotes, raw line breaks in
    strings, Python's constants, unquoted keys, trailing commas, and brackets that are never closed
    at the end of the text. A string that is not closed is unreadable, as its end is unknown, unless
    `cut_strings` says that it ends with the text.
    """

    def __init__(self, text: str, at: int = 0, *, cut_strings: bool = False) -> None:
        self._text = text
        self._at = at
        self._cut_strings = cut_strings
        self._depth = 0

    @property
    def place(self) -> int:
        """How much of the text has been read."""
        return self._at

    def peek(self) -> str:
        """The next character that is no blank, or "" at the end."""
        self._skip()
        return self._text[self._at : self._at + 1]

    def accept(self, character: str) -> bool:
        """Whether this character comes next; it is then passed over."""
        found = self.peek() == character
        self._at += found
        return found

    def word(self) -> str:
        """The name that comes next. Raises Unreadable."""
        self._skip()
        match = _WORD.match(self._text, self._at)
        if not match:
            raise Unreadable
        self._at = match.end()
        return match.group()

    def keyword(self) -> str:
        """The name in `name=`, which is passed over, or "" if something else comes next."""
        self._skip()
        match = _KEYWORD.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[1] if match else ""

    def value(self) -> object:
        """The value that comes next. Raises Unreadable."""
        first = self.peek()
        if first in ("'", '"'):
            return self._string()
        if first not in _CLOSERS:
            return self._scalar()
        self._depth += 1
        if self._depth > MAX_DEPTH or not first:
            raise Unreadable
        self._at += 1
        value = self._object() if first == "{" else self._list(_CLOSERS[first])
        self._depth -= 1
        return value

    def _object(self) -> dict[str, object]:
        members: dict[str, object] = {}
        while not self._closed("}"):
            key = self._string() if self.peek() in ("'", '"') else self.word()
            if not self.accept(":"):
                raise Unreadable
            members[key] = self.value()
            self._separate("}")
        return members

    def _list(self, closer: str) -> list[object]:
        items: list[object] = []
        while not self._closed(closer):
            items.append(self.value())
            self._separate(closer)
        return items

    def _closed(self, closer: str) -> bool:
        """Whether the list or object ends here; the end of the text closes it too."""
        return self.accept(closer) or not self.peek()

    def _separate(self, closer: str) -> None:
        if not self.accept(",") and self.peek() not in ("", closer):
            raise Unreadable

    def _scalar(self) -> object:
        match = _NUMBER.match(self._text, self._at)
        if match and match.group():
            self._at = match.end()
            return read_number(match.group())
        word = self.word()
        if word not in _CONSTANTS:
            raise Unreadable
        return _CONSTANTS[word]

    def _string(self) -> str:
        quote, parts = self.peek(), list[str]()
        self._at += 1
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == quote:
                return _whole("".join(parts))
            parts.append(self._escape() if character == "\\" else character)
        if not self._cut_strings:
            raise Unreadable
        return _whole("".join(parts))

    def _escape(self) -> str:
        """The character behind a backslash; the backslash of an unknown escape stays."""
        letter = self._text[self._at : self._at + 1]
        self._at += 1
        if letter in ("\\", '"', "'"):
            return letter
        if digits := _CODES.get(letter):
            code = self._text[self._at : self._at + digits]
            if re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", code) and int(code, 16) < 0x110000:
                self._at += digits
                return chr(int(code, 16))
        return _ESCAPES.get(letter, "\\" + letter)

    def _skip(self) -> None:
        self._at = _end_of_blanks(self._text, self._at)


def read_value(text: str) -> object:
    """The one value that the text is. Raises Unreadable."""
    value, end = value_at(text)
    if not text[end:].strip():
        return value
    reader = ValueReader(text)  # a number that JSON only begins like, as 0123
    value = reader.value()
    if reader.peek():
        raise Unreadable
    return value


def value_at(text: str, at: int = 0, *, cut_strings: bool = False) -> tuple[object, int]:
    """The value at a place, and the place after it. Raises Unreadable.

    Strict JSON goes before the repairs, which are those of ValueReader.
    """
    start = _end_of_blanks(text, at)
    try:
        return _strict(text, start)
    except (ValueError, RecursionError):
        reader = ValueReader(text, start, cut_strings=cut_strings)
        return reader.value(), reader.place


def json_object(text: str) -> dict[str, object] | None:
    """The object that a text is without any repairs, but for raw line breaks in strings."""
    try:
        value, end = _strict(text, _end_of_blanks(text, 0))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not text[end:].strip() else None


def _strict(text: str, at: int) -> tuple[object, int]:
    """The JSON value at a place. Raises ValueError, also for what is nested too deeply."""
    value: object
    value, end = _DECODER.raw_decode(text, at)
    if text.count("[", at, end) + text.count("{", at, end) > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    if "\\u" in text[at:end] or not text.isascii():
        written = json.dumps(value, ensure_ascii=False)
        value = json.loads(_whole(written)) if _SURROGATE.search(written) else value
    return value, end


def _refuse(word: str) -> NoReturn:
    raise Unreadable(word)


def _check_depth(value: object, levels: int) -> None:
    """Raises Unreadable for more levels of lists and objects than this."""
    if isinstance(value, dict | list):
        if not levels:
            raise Unreadable
        for member in value.values() if isinstance(value, dict) else value:
            _check_depth(member, levels - 1)


def read_number(text: str) -> int | float:
    """A number in JSON's or Python's notation. Raises Unreadable.

    An integer of more than 64 bits becomes a float, as it does in most readers of JSON.
    """
    if not _NUMBER.fullmatch(text):
        raise Unreadable
    if _INTEGER.fullmatch(text) and (number := int(text)) in INTEGERS:
        return number
    fraction = float(text)
    if not math.isfinite(fraction):
        raise Unreadable
    return fraction


def _whole(text: str) -> str:
    """The text with its surrogate pairs joined; half a pair, which is no text, is replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def inside_string(text: str, quotes: str = '"') -> bool:
    """Whether a string is open at the end of the text. Escaped quotes do not count."""
    closed = True
    for match in _STRINGS[quotes].finditer(text):
        closed = match["closed"] is not None
    return not closed


def _end_of_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


_DECODER: Final = json.JSONDecoder(
    strict=False, parse_int=read_number, parse_float=read_number, parse_constant=_refuse
)
