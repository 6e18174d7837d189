"""Texts of parameters become values of the type that the schema names (CONTRACT 8.8)."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Tool
from outrider.daemon.chat.parse.coercion import coerce
from outrider.daemon.chat.tool_definition import parameters_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "42", "42"),
        ({"type": "string"}, " a ", " a "),
        ({"type": "string"}, "null", None),
        ({"type": "boolean"}, "TRUE", True),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": "integer"}, " 42 ", 42),
        ({"type": "integer"}, "4.5", "4.5"),
        ({"type": "integer"}, "9" * 30, "9" * 30),
        ({"type": "number"}, "42", 42),
        ({"type": "number"}, "-.5", -0.5),
        ({"type": "number"}, "1e400", "1e400"),
        ({"type": "array"}, '["a", 1]', ["a", 1]),
        ({"type": "array"}, "['a', True]", ["a", True]),
        ({"type": "array"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "object"}, '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ({"type": "object"}, "text", "text"),
        ({"type": ["string", "integer"]}, "42", 42),
        ({"type": ["null", "string"]}, "x", "x"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "x1", "x1"),
        ({"oneOf": [{"type": "integer"}, {"type": "boolean"}]}, "true", True),
        ({"$ref": "#/$defs/Count"}, "3", 3),
        ({"$ref": "#/$defs/Loop"}, "3", "3"),
        ({"$ref": "#/$defs/None"}, "3", "3"),
        ({"enum": [1, 2]}, "2", 2),
        ({"const": True}, "true", True),
        ({}, "42", "42"),
        ({"type": "thing"}, "42", "42"),
        ("no schema", "42", "42"),
    ],
)
def test_a_text_is_coerced(schema: object, text: str, value: object) -> None:
    definitions = {"Count": {"type": "integer"}, "Loop": {"$ref": "#/$defs/Loop"}}
    coerced = coerce(text, "p", {"properties": {"p": schema}, "$defs": definitions})
    assert coerced == value
    assert type(coerced) is type(value)


def test_a_parameter_that_the_schema_lacks_stays_a_string() -> None:
    assert coerce("1", "q", {"properties": {"p": {"type": "integer"}}}) == "1"
    assert coerce("1", "q", {}) == "1"


def test_the_schema_is_found_by_the_name_of_the_tool() -> None:
    schema = {"type": "object"}
    tools = [
        Tool({"type": "function", "function": {"name": "f", "parameters": schema}}),
        Tool({"name": "g", "parameters": schema}),
        Tool({"function": {"name": "h"}}),
    ]
    assert parameters_of("f", tools) == parameters_of("g", tools) == schema
    assert parameters_of("h", tools) == parameters_of("x", tools) == {}
