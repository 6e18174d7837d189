"""How the tools of a request are declared in TypeScript, as gpt-oss knows them (CONTRACT 8.8)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ...conversation import Tool
from ...tool_definition import function_of, mapping, name_of, sequence

# JSON types whose name differs in TypeScript.
SCALARS = {"integer": "number"}
KNOWN = ("string", "number", "boolean", "null", "integer")
MAX_DEPTH = 16  # nested objects that are written out


def namespace(tools: Sequence[Tool], names: Mapping[str, str]) -> str:
    """The namespace `functions`; `names` are the identifiers of the tools."""
    parts = "".join(_function(tool, names[name_of(tool)]) for tool in tools)
    return f"## functions\n\nnamespace functions {{\n\n{parts}}} // namespace functions"


def _function(tool: Tool, name: str) -> str:
    function = function_of(tool)
    schema = mapping(function.get("parameters"))
    arguments = f"_: {_object(schema, 0)}" if schema.get("properties") else ""
    return f"{_comment(function)}type {name} = ({arguments}) => any;\n\n"


def _object(schema: Mapping[str, object], depth: int) -> str:
    required = sequence(schema.get("required"))
    properties = mapping(schema.get("properties"))
    lines = (
        _field(name, mapping(field), depth, is_required=name in required)
        for name, field in properties.items()
    )
    return f"{{\n{''.join(lines)}}}"


def _field(name: str, schema: Mapping[str, object], depth: int, *, is_required: bool) -> str:
    optional = "" if is_required else "?"
    default = f", // default: {_default(schema)}" if "default" in schema else ","
    return f"{_comment(schema)}{name}{optional}: {_type(schema, depth)}{default}\n"


def _default(schema: Mapping[str, object]) -> str:
    value = schema["default"]
    return value if schema.get("enum") and isinstance(value, str) else _json(value)


def _comment(schema: Mapping[str, object]) -> str:
    lines = str(schema.get("description") or "").splitlines()
    return "".join(f"// {line}\n" for line in lines)


def _type(schema: Mapping[str, object], depth: int) -> str:
    kinds = list(dict.fromkeys(_kinds(schema, depth)))
    if schema.get("nullable") and "null" not in kinds:
        kinds.append("null")
    return " | ".join(kinds)


def _kinds(schema: Mapping[str, object], depth: int) -> Iterator[str]:
    """The alternatives of a union."""
    if depth > MAX_DEPTH:
        yield "any"
    elif enum := sequence(schema.get("enum")):
        yield from map(_json, enum)
    elif "const" in schema:
        yield _json(schema["const"])
    elif variants := sequence(schema.get("anyOf")) or sequence(schema.get("oneOf")):
        yield from (_type(mapping(variant), depth + 1) for variant in variants)
    elif kinds := sequence(schema.get("type")):
        yield from (_type({**schema, "type": kind}, depth + 1) for kind in kinds)
    else:
        yield _single(schema, depth)


def _single(schema: Mapping[str, object], depth: int) -> str:
    kind = str(schema.get("type", ""))
    if kind == "array":
        items = _type(mapping(schema.get("items")), depth + 1)
        return f"({items})[]" if " | " in items else f"{items}[]"
    if kind == "object":
        return _object(schema, depth + 1) if schema.get("properties") else "object"
    return SCALARS.get(kind, kind) if kind in KNOWN else "any"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
