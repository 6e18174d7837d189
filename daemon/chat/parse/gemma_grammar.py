"""What a Gemma model may write when it must call a tool: a grammar (GUIDE 7.4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from ..conversation import Tool
from ..tool_definition import mapping, name_of, resolve, schema_of
from .call_grammar import join_calls, literal

BARE_KEY = re.compile(r"[\w.$-]+")
MAX_DEPTH = 32  # nested schemas that are enforced; deeper ones allow any value
# Numbers are bounded, because a model can repeat a digit without end.
COMMON = r"""
TEXT: /(?s:.)*/
INTEGER: /-?(0|[1-9][0-9]{0,17})/
NUMBER: /-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?/
KEY: /[A-Za-z_][A-Za-z0-9_]{0,63}/
boolean: "true" | "false"
null: "null"
string: quote TEXT quote
value: string | NUMBER | boolean | null | map | list
map: "{" (pair ("," pair)*)? "}"
pair: KEY ":" value
list: "[" (value ("," value)*)? "]"
"""
ANY = "value"
COMMA = ' "," '
SCALARS = {
    "string": "string",
    "integer": "INTEGER",
    "number": "NUMBER",
    "boolean": "boolean",
    "null": "null",
}


def gemma_grammar(tools: Sequence[Tool], *, call_open: str, call_close: str, quote: str) -> str:
    """A Lark grammar of one call or more of these tools, in the notation of Gemma models.

    The markers must be special tokens of the vocabulary; llguidance refuses the grammar if not.
    Enforced are types, enums, required properties and the order of properties by name.
    """
    bodies = [_GemmaToolGrammar(number, tool) for number, tool in enumerate(tools)]
    calls = [body.call() for body in bodies] or ['"call:" KEY map']
    each = (call_open, call_close)
    rules = [rule for body in bodies for rule in body.rules]
    return "\n".join([join_calls(calls, each, each, each=each), f"quote: {quote}", COMMON, *rules])


class _GemmaToolGrammar:
    """The rules of one tool's arguments."""

    def __init__(self, number: int, tool: Tool) -> None:
        """`number` keeps the names of rules apart from those of other tools."""
        self._name = name_of(tool)
        self._root = schema_of(tool)
        self._prefix = f"t{number}_"
        self._count = 0
        self._references: dict[str, str] = {}  # the rules of `$ref`s
        self.rules: list[str] = []

    def call(self) -> str:
        return f"{literal(f'call:{self._name}')} {self._object(self._root, 0)}"

    def _value(self, schema: object, depth: int) -> str:
        """An expression for the values of a schema."""
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return ANY
        if schema.get("nullable"):
            return self._either([{**schema, "nullable": False}, {"type": "null"}], depth)
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, depth)
        if isinstance(enum := schema.get("enum"), list) and enum:
            return _group(map(_constant, enum))
        if "const" in schema:
            return _constant(schema["const"])
        for key in ("anyOf", "oneOf"):
            if isinstance(variants := schema.get(key), list) and variants:
                return self._either(variants, depth)
        if isinstance(kinds := schema.get("type"), list) and kinds:
            return self._either([{**schema, "type": kind} for kind in kinds], depth)
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, object], depth: int) -> str:
        kind = schema.get("type")
        if kind == "array":
            item = self._rule(self._value(schema.get("items"), depth + 1))
            minimum = schema.get("minItems")
            optional = "" if isinstance(minimum, int) and minimum > 0 else "?"
            return f'"[" ({item} ("," {item})*){optional} "]"'
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth) if schema.get("properties") else "map"
        return SCALARS.get(str(kind), ANY)

    def _either(self, schemas: Iterable[object], depth: int) -> str:
        return _group(self._value(schema, depth + 1) for schema in schemas)

    def _reference(self, reference: str, depth: int) -> str:
        """The rule of a schema that is referred to, which may refer to itself."""
        if reference not in self._references:
            target = resolve(reference, self._root)
            if target is None:
                return ANY
            name = self._references[reference] = self._new_name()
            self.rules.append(f"{name}: {self._value(target, depth + 1)}")
        return self._references[reference]

    def _object(self, schema: Mapping[str, object], depth: int) -> str:
        """The properties by name, each with or without a comma before it."""
        properties = mapping(schema.get("properties"))
        needed = schema.get("required")
        required = {str(key) for key in needed} if isinstance(needed, list) else set()
        first = later = '"}"'
        for key in sorted(required.union(properties), reverse=True):
            pair = self._rule(f"{_key(key)} {self._value(properties.get(key), depth + 1)}")
            leading, following = f"{pair} {later}", f'"," {pair} {later}'
            if key not in required:
                leading, following = f"{leading} | {first}", f"{following} | {later}"
            first, later = self._rule(leading), self._rule(following)
        return f'"{{" {first}'

    def _rule(self, body: str) -> str:
        """A rule, for what stands in several places: written out it would double at each level."""
        name = self._new_name()
        self.rules.append(f"{name}: {body}")
        return name

    def _new_name(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"


def _group(alternatives: Iterable[str]) -> str:
    return f"({' | '.join(dict.fromkeys(alternatives))})"


def _constant(value: object) -> str:
    """One value, in the notation of Gemma models."""
    if isinstance(value, str):
        return f"quote {literal(value)} quote" if value else "quote quote"
    if isinstance(value, list):
        return f'"[" {COMMA.join(map(_constant, value))} "]"'
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(key))} {_constant(value[key])}" for key in sorted(value, key=str))
        return f'"{{" {COMMA.join(pairs)} "}}"'
    return literal(json.dumps(value))


def _key(key: str) -> str:
    if BARE_KEY.fullmatch(key):
        return literal(f"{key}:")
    return f'quote {literal(key)} quote ":"' if key else 'quote quote ":"'
