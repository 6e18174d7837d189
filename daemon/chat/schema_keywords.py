"""Which value may a keyword of JSON Schema have, and what becomes of each keyword in a grammar?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Final

from ..errors import InvalidSchema

Schema = dict[str, Any] | bool

TYPES: Final = ("null", "boolean", "object", "array", "number", "integer", "string")
ANY_TYPE: Final = "any"  # draft 3
# Strings that llguidance 1.9.1 can follow; all other formats are annotations (JSON Schema 2020-12,
# validation, 7.2.3).
FORMATS: Final = frozenset(
    {
        *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"),
        *("uri", "unknown"),
    }
)
# Keywords that a grammar follows as they are.
FOLLOWED: Final = (
    *("type", "const", "enum", "pattern", "format", "minLength", "maxLength", "minItems"),
    *("maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("required", "minProperties", "maxProperties"),
)
# Keywords that a grammar of llguidance 1.9.1 cannot follow.
PASSED_OVER: Final = (
    *("not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains"),
    *("dependentRequired", "dependentSchemas", "dependencies", "extends"),
    *("unevaluatedItems", "unevaluatedProperties", "disallow"),
    *("$dynamicRef", "$recursiveRef"),
)
# Keywords that limit an answer; all others describe it.
MEANINGFUL: Final = frozenset(
    {
        *FOLLOWED,
        *PASSED_OVER,
        *("$ref", "allOf", "anyOf", "oneOf", "properties", "patternProperties", "propertyNames"),
        *("additionalProperties", "items", "prefixItems", "additionalItems", "nullable"),
        "divisibleBy",
    }
)
COUNTS: Final = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)
SCHEMA_WORDS: Final = "a valid JSON Schema object"


def invalid_format(reason: str) -> InvalidSchema:
    """The error for a schema that cannot be followed, in Ollama's words (CONTRACT 1.4)."""
    return InvalidSchema(f'invalid format: {reason}; expected "json" or {SCHEMA_WORDS}')


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)  # type: ignore[operator, call-overload]


def _is_bound(value: object) -> bool:
    return isinstance(value, bool) or _is_number(value)  # draft 4: a flag beside the limit


def _is_schema(value: object) -> bool:
    return isinstance(value, bool | dict)


def _is_schemas(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def _is_map(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("$ref", "pattern", "format"), (lambda v: isinstance(v, str), "a string")),
    **dict.fromkeys(("multipleOf", "divisibleBy", "minimum", "maximum"), (_is_number, "a number")),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (_is_bound, "a number")),
    **dict.fromkeys(COUNTS, (_is_count, "a whole number from 0 on")),
    **dict.fromkeys(
        ("allOf", "anyOf", "oneOf", "prefixItems"), (_is_schemas, "an array of schemas")
    ),
    **dict.fromkeys(
        ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"),
        (_is_map, "an object of schemas"),
    ),
    **dict.fromkeys(
        ("additionalProperties", "additionalItems", "propertyNames", "not", "if", "then", "else"),
        (_is_schema, "a schema"),
    ),
    "items": (lambda v: _is_schema(v) or _is_schemas(v), "a schema"),
    "enum": (lambda v: isinstance(v, list), "an array"),
    "required": (lambda v: _is_names(v) or isinstance(v, bool), "an array of strings"),  # draft 3
    "type": (lambda v: isinstance(v, str | list), "a string or an array of them"),
}


def check_keywords(schema: Mapping[str, Any]) -> None:
    """Raise InvalidFormat for a keyword whose value is of the wrong type."""
    for keyword, value in schema.items():
        is_right, expected = _CHECKS.get(keyword, (None, ""))
        if is_right and not is_right(value):
            raise invalid_format(f"{keyword} must be {expected}")


def types_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The allowed types; all of them without the keyword. Raises InvalidFormat.

    Libraries for Gemini write them in capitals.
    """
    written = schema.get("type", ANY_TYPE)
    names = [written] if isinstance(written, str) else written
    known = [name.lower() if isinstance(name, str) else name for name in names]
    for name in known:
        if name not in (*TYPES, ANY_TYPE):
            raise invalid_format(f"type {str(name)[:40]!r} is not one of {', '.join(TYPES)}")
    return TYPES if ANY_TYPE in known else tuple(dict.fromkeys(known))
