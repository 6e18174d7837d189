"""Can an answer to a rewritten JSON schema end, or does it go on without end?

An object that requires a property of its own kind, for example, has no finite answer.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

from .schema_keywords import Schema, types_of

SCALARS: Final = frozenset({"null", "boolean", "number", "integer", "string"})


def endless(definitions: Mapping[str, Schema]) -> frozenset[str]:
    """The definitions to which no answer is finite."""
    left = dict(definitions)
    while ending := [name for name, schema in left.items() if can_end(schema, left.keys())]:
        for name in ending:
            del left[name]
    return frozenset(left)


def can_end(schema: Schema, without_end: Container[str]) -> bool:
    """Whether some answer is finite; `without_end` names the definitions that have none."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and schema["$ref"].rpartition("/")[2] in without_end:
        return False
    if not all(can_end(part, without_end) for part in schema.get("allOf", [])):
        return False
    if "anyOf" in schema and not any(can_end(part, without_end) for part in schema["anyOf"]):
        return False
    if "const" in schema or "enum" in schema:
        return True
    types = set(types_of(schema))
    if types & SCALARS:
        return True
    return ("object" in types and _object_can_end(schema, without_end)) or (
        "array" in types and _array_can_end(schema, without_end)
    )


def _object_can_end(schema: dict[str, Any], without_end: Container[str]) -> bool:
    properties, other = schema.get("properties", {}), schema.get("additionalProperties", True)
    if schema.get("patternProperties"):
        other = True  # a pattern may be that of any name
    required = schema.get("required", [])
    return all(can_end(properties.get(name, other), without_end) for name in required)


def _array_can_end(schema: dict[str, Any], without_end: Container[str]) -> bool:
    first, other = schema.get("prefixItems", []), schema.get("items", True)
    count = schema.get("minItems", 0)
    needed = [*first[:count], *([other] if count > len(first) else [])]
    return all(can_end(item, without_end) for item in needed)
