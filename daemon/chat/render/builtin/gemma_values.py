"""How Gemma models write values and tool declarations (CONTRACT 8.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...conversation import Message, Tool, ToolCall
from ...tool_definition import function_of, mapping, schema_of, sequence
from .history import UNKNOWN_TOOL

SKIPPED = frozenset({"description", "type", "properties", "required", "nullable"})


@dataclass(frozen=True, slots=True)
class GemmaNotation:
    """Values and declarations of tools, with the token that a model puts around strings."""

    quote: str

    def value(self, value: object, *, quoted_keys: bool = False) -> str:
        """A JSON value; the keys of maps are sorted, and bare unless `quoted_keys`."""
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return "null"
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        if isinstance(value, Mapping):
            return self._map(value, quoted_keys=quoted_keys)
        if isinstance(value, Iterable):
            return self._list(self.value(part, quoted_keys=quoted_keys) for part in value)
        return str(value)

    def string(self, text: object) -> str:
        return f"{self.quote}{text}{self.quote}"

    def pairs(self, values: Mapping[str, object]) -> str:
        """The arguments of a call, without braces."""
        return ",".join(f"{key}:{self.value(values[key])}" for key in sorted(values))

    def call(self, call: ToolCall) -> str:
        return f"call:{call.name}{{{self.pairs(call.arguments)}}}"

    def declaration(self, tool: Tool) -> str:
        function = function_of(tool)
        parts = [f"description:{self.string(function.get('description') or '')}"]
        parameters = schema_of(tool)
        if parameters.get("properties") or parameters.get("type"):
            parts.append(f"parameters:{{{','.join(self._parameters(parameters))}}}")
        return f"declaration:{function.get('name', '')}{{{','.join(parts)}}}"

    def _parameters(self, schema: Mapping[str, object]) -> Iterable[str]:
        if properties := mapping(schema.get("properties")):
            yield f"properties:{{{self._properties(properties)}}}"
        if required := sequence(schema.get("required")):
            yield f"required:{self._strings(required)}"
        if types := _types(schema):
            yield f"type:{self._union(types)}"

    def _properties(self, properties: Mapping[str, object]) -> str:
        return ",".join(
            f"{name}:{{{','.join(self._property(mapping(properties[name])))}}}"
            for name in sorted(properties)
            if name not in SKIPPED
        )

    def _property(self, schema: Mapping[str, object]) -> Iterable[str]:
        types = _types(schema)
        if description := schema.get("description"):
            yield f"description:{self.string(description)}"
        if types == ["STRING"] and (enum := sequence(schema.get("enum"))):
            yield f"enum:{self._list(map(self.value, enum))}"
        if types == ["ARRAY"] and (items := mapping(schema.get("items"))):
            yield f"items:{{{','.join(self._items(items))}}}"
        if schema.get("nullable"):
            yield "nullable:true"
        if types == ["OBJECT"]:
            yield f"properties:{{{self._properties(mapping(schema.get('properties')))}}}"
            if required := sequence(schema.get("required")):
                yield f"required:{self._strings(required)}"
        if types:
            yield f"type:{self._union(types)}"

    def _items(self, schema: Mapping[str, object]) -> Iterable[str]:
        """What is said of the elements of an array, sorted by key."""
        if "type" not in schema and (types := _types(schema)):
            schema = {**{k: v for k, v in schema.items() if k != "anyOf"}, "type": types}
        for key in sorted(schema):
            value = schema[key]
            if value is None:
                continue
            if key == "properties":
                yield f"properties:{{{self._properties(mapping(value))}}}"
            elif key == "required":
                yield f"required:{self._strings(sequence(value))}"
            elif key == "type":
                upper = [str(part).upper() for part in sequence(value)]
                yield f"type:{self._strings(upper) if upper else self.string(str(value).upper())}"
            else:
                yield f"{key}:{self.value(value, quoted_keys=True)}"

    def _union(self, types: list[str]) -> str:
        """Several types of a property are one string, written as Python writes a list."""
        return self.string(types[0] if len(types) == 1 else repr(types))

    def _map(self, values: Mapping[object, object], *, quoted_keys: bool) -> str:
        pairs = (
            f"{self.string(key) if quoted_keys else key}:"
            f"{self.value(values[key], quoted_keys=quoted_keys)}"
            for key in sorted(values, key=str)
        )
        return f"{{{','.join(pairs)}}}"

    def _strings(self, texts: Iterable[object]) -> str:
        return self._list(map(self.string, texts))

    def _list(self, parts: Iterable[str]) -> str:
        return f"[{','.join(parts)}]"


def tool_of(result: Message, calls: Iterable[ToolCall]) -> str:
    """The name of the tool whose result this is: by the id of the call, else as the client says."""
    call_id = result.tool_call_id
    by_id = next((call.name for call in calls if call_id and call.id == call_id), "")
    return by_id or result.tool_name or UNKNOWN_TOOL


def _types(schema: Mapping[str, object]) -> list[str]:
    """The types of a schema in capitals; those of an `anyOf` if it says nothing else."""
    if "type" in schema:
        return [str(part).upper() for part in sequence(schema["type"]) or [schema["type"]]]
    variants = [mapping(variant) for variant in sequence(schema.get("anyOf"))]
    bare = all(set(variant) == {"type"} for variant in variants)
    return [str(variant["type"]).upper() for variant in variants] if bare else []
