"""Where in a JSON schema does a `$ref` point (JSON Schema 2020-12, core, 8.2; RFC 6901)?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

from .schema_keywords import Schema, invalid_format

# Keywords whose objects hold schemas by name; all other objects are schemas or values.
BY_NAME: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
VALUES: Final = frozenset({"const", "enum", "default", "examples", "example", "required", "type"})


class SchemaDocument:
    """A schema with the addresses of its parts."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._base: dict[int, str] = {}  # address of the document around each schema
        self._documents: dict[str, dict[str, Any]] = {}  # by address
        self._anchors: dict[tuple[str, str], dict[str, Any]] = {}
        self._copies: list[dict[str, Any]] = []  # kept, so that no other object gets their id
        self._index(root)

    def resolve(self, ref: str, holder: dict[str, Any]) -> Schema:
        """The schema that a `$ref` of the holder names. Raises InvalidFormat if there is none."""
        base = self._base.get(id(holder), "")
        address, fragment = urldefrag(base + ref if ref.startswith("#") else urljoin(base, ref))
        document = self._documents.get(address)
        if document is None:
            raise invalid_format(f"$ref {ref[:100]!r} names another document, which is not read")
        anchored = self._anchors.get((address, unquote(fragment)))
        if anchored is not None:
            return anchored
        for start in (document, self._root):
            for pointer in (unquote(fragment), fragment, f"/{unquote(fragment)}"):
                found = _at(start, pointer)
                if isinstance(found, bool | dict):
                    return found
        raise invalid_format(f"$ref {ref[:100]!r} names a place that is not there")

    def place(self, copy: dict[str, Any], original: dict[str, Any]) -> None:
        """Read a `$ref` of a copy as if it stood in the original."""
        self._base[id(copy)] = self._base.get(id(original), "")
        self._copies.append(copy)

    def _index(self, root: dict[str, Any]) -> None:
        self._documents[""] = root
        waiting = [(root, "")]
        while waiting:
            schema, base = waiting.pop()
            base = self._enter(schema, base)
            self._base[id(schema)] = base
            for anchor in (schema.get("$anchor"), schema.get("$dynamicAnchor")):
                if isinstance(anchor, str):
                    self._anchors.setdefault((base, anchor), schema)
            waiting += [(part, base) for part in parts_of(schema)]

    def _enter(self, schema: dict[str, Any], base: str) -> str:
        """The address of the document that a schema begins, or else the one around it."""
        id_ = schema.get("$id", schema.get("id"))
        if not isinstance(id_, str):
            return base
        if id_.startswith("#"):  # an anchor up to draft 7; some libraries write the pointer
            self._anchors.setdefault((base, id_[1:]), schema)
            return base
        address = urldefrag(urljoin(base, id_)).url
        self._documents.setdefault(address, schema)
        return address


def parts_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas directly inside a schema, apart from booleans."""
    for keyword, value in schema.items():
        if keyword in VALUES:
            continue
        if isinstance(value, list):
            inside: list[Any] = value
        elif isinstance(value, dict) and keyword in BY_NAME:
            inside = list(value.values())
        else:
            inside = [value]
        yield from (part for part in inside if isinstance(part, dict))


def _at(start: Any, pointer: str) -> Any:
    """What a JSON pointer names, None if that is not there."""
    if pointer and not pointer.startswith("/"):
        return None
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(start, dict):
            start = start.get(key)
        elif isinstance(start, list) and key.isdecimal() and int(key) < len(start):
            start = start[int(key)]
        else:
            return None
    return start
