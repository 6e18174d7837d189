"""How does Go print a value, and write it as JSON (CONTRACT 8.2)?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal

from gotpl.runtime.gofmt import sprintf
from gotpl.runtime.sync_vm import format_value
from gotpl.runtime.values import INVALID, UNTYPED_NIL

# encoding/json writes these as escapes, so that the text may stand inside HTML.
HTML_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})
# Numbers outside of this range are written with an exponent by encoding/json.
SMALLEST_PLAIN, LARGEST_PLAIN = 1e-6, 1e21


class GoStruct(dict[str, object]):
    """A struct or map that prints as JSON; its keys are the names that a template uses."""

    def __init__(self, fields: Mapping[str, object], encoded: str) -> None:
        super().__init__(fields)
        self.encoded = encoded


class GoList(list[object]):
    """A list that prints as JSON."""

    def __init__(self, items: Iterable[object], encoded: str) -> None:
        super().__init__(items)
        self.encoded = encoded


class GoTypes(list[str]):
    """The types of a JSON schema. A single one prints as its name, several as [a b]."""

    @property
    def encoded(self) -> str:
        return to_json(self[0] if len(self) == 1 else list(self))


def to_text(*values: object) -> str:
    """What `{{ . }}` prints. Without a value, or with a missing one, it prints nothing."""
    value = values[-1] if values else INVALID
    if isinstance(value, str):
        return value
    if value is INVALID or value is UNTYPED_NIL or value is None:
        return ""
    if isinstance(value, GoTypes) and len(value) == 1:
        return value[0]
    if isinstance(value, GoStruct | GoList):
        return value.encoded
    return format_value(value, "go")


def to_json(value: object) -> str:
    """As encoding/json marshals it: compact, the keys of a map sorted, `<`, `>`, `&` escaped."""
    if isinstance(value, GoStruct | GoList | GoTypes):
        return value.encoded
    if value is INVALID or value is UNTYPED_NIL or value is None:
        return "null"
    if isinstance(value, Mapping):
        return to_object(sorted((str(key), item) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return f"[{','.join(map(to_json, value))}]"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bool | int):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).translate(HTML_ESCAPES)


def to_object(fields: Iterable[tuple[str, object]]) -> str:
    """A JSON object with its keys in this order."""
    return f"{{{','.join(f'{to_json(key)}:{to_json(value)}' for key, value in fields)}}}"


def are_equal(first: object, *others: object) -> bool:
    """`eq`: whether the first value equals any other. Values of different types are unequal."""
    return any(_same(first, other) for other in others)


def are_unequal(first: object, other: object) -> bool:
    """`ne`."""
    return not _same(first, other)


def print_values(*values: object) -> str:
    """`print`: a blank stands between two values of which neither is a string."""
    text, previous = "", None
    for index, value in enumerate(values):
        blank = index and not isinstance(previous, str) and not isinstance(value, str)
        text += f" {to_text(value)}" if blank else to_text(value)
        previous = value
    return text


def print_line(*values: object) -> str:
    """`println`: blanks between all values, and a line end."""
    return f"{' '.join(map(to_text, values))}\n"


def print_format(layout: object, *values: object) -> str:
    """`printf`. A value that prints as JSON does so here too."""
    plain = (bool, int, float, str)
    return sprintf(layout, *(v if isinstance(v, plain) else to_text(v) for v in values))


def _same(left: object, right: object) -> bool:
    left, right = _comparable(left), _comparable(right)
    return type(left) is type(right) and left == right


def _comparable(value: object) -> object:
    if value is INVALID or value is UNTYPED_NIL:
        return None
    return to_text(value) if isinstance(value, GoTypes) else value


def _number(value: float) -> str:
    """The shortest digits that give the number; Go writes no `.0`, and Python no plain 1e+16."""
    if value != value or value in (float("inf"), float("-inf")):
        return "null"
    if value == 0 or SMALLEST_PLAIN <= abs(value) < LARGEST_PLAIN:
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = repr(value).partition("e")
    sign, digits = exponent[:1], exponent[1:].lstrip("0")
    return f"{mantissa.removesuffix('.0')}e{sign}{digits}"
