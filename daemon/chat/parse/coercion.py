"""Which value does the text of a parameter stand for, given the schema of its tool?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ..tool_definition import mapping, resolve
from .values import Unreadable, read_number, read_value

_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)  # of at most 64 bits
_MAX_REFERENCES: Final = 8  # that lead from a parameter to its type
# fmt: off
_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "boolean", int: "integer", float: "number", str: "string",
    list: "array", dict: "object", type(None): "null",
}
# fmt: on


def coerce(text: str, parameter: str, schema: Mapping[str, object]) -> object:
    """The value of a parameter, whose type the schema of the arguments tells.

    The types are tried in the order of CONTRACT 8.8; a parameter without a type stays a string.
    "null" is null whatever the type.
    """
    if text.strip().lower() == "null":
        return None
    properties = mapping(schema.get("properties"))
    types = set(types_of(properties.get(parameter), schema))
    for name, read in _READERS.items():
        if name in types:
            try:
                return read(text.strip())
            except Unreadable:
                continue
    return text


def types_of(
    schema: object, root: Mapping[str, object], references: int = _MAX_REFERENCES
) -> Iterable[str]:
    """The types that a part of a schema allows, as far as it names them."""
    plain = mapping(schema)
    named = plain.get("type")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return [name for name in named if isinstance(name, str)]
    if isinstance(reference := plain.get("$ref"), str) and references:
        return types_of(resolve(reference, root), root, references - 1)
    for union in ("anyOf", "oneOf", "allOf"):
        if isinstance(members := plain.get(union), list) and references:
            return [t for member in members for t in types_of(member, root, references - 1)]
    values = plain.get("enum", [plain["const"]] if "const" in plain else [])
    known = values if isinstance(values, list) else []
    return [_TYPE_NAMES[type(value)] for value in known if type(value) in _TYPE_NAMES]


def _boolean(text: str) -> object:
    values = {"true": True, "false": False}
    if text.lower() not in values:
        raise Unreadable
    return values[text.lower()]


def _integer(text: str) -> object:
    if not _INTEGER.fullmatch(text):
        raise Unreadable
    return int(text)


def _container(kind: type) -> Callable[[str], object]:
    def read(text: str) -> object:
        value = read_value(text)
        if not isinstance(value, kind):
            raise Unreadable
        return value

    return read


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "boolean": _boolean,
    "integer": _integer,
    "number": read_number,
    "array": _container(list),
    "object": _container(dict),
}
