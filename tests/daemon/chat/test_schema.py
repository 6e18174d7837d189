"""How a client's JSON schema is rewritten, and which ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from outrider.daemon.chat.schema import INTERSECTIONS, prepare_schema
from outrider.daemon.errors import InvalidSchema

pytestmark = pytest.mark.unit

Json = dict[str, Any]
STRING: Json = {"type": "string"}


def prepare(schema: Json, *leave_out: str) -> Json:
    return prepare_schema(schema, leave_out=leave_out).schema


def passed_over(schema: Json) -> tuple[str, ...]:
    return prepare_schema(schema).passed_over


def names_of(schema: Json) -> list[str]:
    """The properties of an object that is closed."""
    assert schema["additionalProperties"] is False
    return list(schema["properties"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": STRING}},
        {"properties": {"a": STRING}},
        {"type": "object", "properties": {"a": STRING}, "unevaluatedProperties": False},
        {"allOf": [{"properties": {"a": STRING}}]},
    ],
)
def test_an_object_that_lists_properties_is_closed(schema: Json) -> None:
    prepared = prepare(schema)
    assert names_of(prepared) == ["a"]
    assert prepared["type"] == "object"


@pytest.mark.parametrize(
    "more",
    [
        {"additionalProperties": True},
        {"additionalProperties": {}},
        {"patternProperties": {"^x": {}}},
        {"unevaluatedProperties": {"type": "null"}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_an_object_that_says_what_else_it_has_stays_open(more: Json) -> None:
    prepared = prepare({"type": "object", "properties": {"a": STRING}, **more})
    assert prepared.get("additionalProperties") is not False


def test_an_object_without_properties_stays_open() -> None:
    assert prepare({"type": "object"}) == {"type": "object"}
    assert names_of(prepare({"type": "object", "properties": {}})) == []


def test_the_alternatives_of_an_object_are_closed_each() -> None:
    either = [{"properties": {"a": STRING}}, {"properties": {"b": STRING}}]
    prepared = prepare({"anyOf": either})
    assert [names_of(each) for each in prepared["anyOf"]] == [["a"], ["b"]]
    both = prepare({"properties": {"c": STRING}, "oneOf": either})
    assert [names_of(each) for each in both["anyOf"]] == [["a", "c"], ["b", "c"]]
    assert "additionalProperties" not in both


def test_what_conditions_mention_is_allowed_too() -> None:
    schema = {
        "properties": {"a": STRING},
        "required": ["r"],
        "if": {"properties": {"i": {}}},
        "then": {"required": ["t"]},
        "dependentRequired": {"a": ["d"]},
        "dependentSchemas": {"a": {"properties": {"s": STRING}}},
    }
    assert set(names_of(prepare(schema))) == {*"aritds"}


def test_parts_with_different_properties_are_merged() -> None:
    base = {"properties": {"a": STRING}, "required": ["a"]}
    schema = {
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"type": "null"}}}],
        "$defs": {"base": base},
    }
    assert prepare(schema) == {
        "type": "object",
        "properties": {"a": STRING, "b": {"type": "null"}},
        "required": ["a"],
        "additionalProperties": False,
    }


def test_parts_with_one_property_stay_an_intersection() -> None:
    parts = [{"properties": {"a": STRING}}, {"properties": {"a": {"minLength": 2}}}]
    prepared = prepare({"allOf": parts})
    assert names_of(prepared) == ["a"]
    assert [part["properties"]["a"] for part in prepared["allOf"]] == [STRING, {"minLength": 2}]
    assert prepare({"allOf": parts}, INTERSECTIONS).get("allOf") is None


@pytest.mark.parametrize(
    ("schema", "prepared"),
    [
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "any", "title": "T", "default": 3, "x-y": 1}, {}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"maximum": 1, "exclusiveMaximum": False}, {"maximum": 1}),
        ({"divisibleBy": 3}, {"multipleOf": 3}),
        ({"minLength": 2.0}, {"minLength": 2}),
        ({"format": "uuid"}, {"format": "uuid"}),
        ({"type": "string", "nullable": True}, {"anyOf": [STRING, {"type": "null"}]}),
        ({"properties": {"a": {"not": {}}}}, {"properties": {"a": False}}),
        ({"items": [STRING]}, {"prefixItems": [STRING], "items": False, "minItems": 1}),
        ({"prefixItems": [STRING], "items": {}}, {"prefixItems": [STRING], "items": {}}),
        ({"items": [{}], "additionalItems": STRING}, {"prefixItems": [{}], "items": STRING}),
        ({"items": [{}], "maxItems": 1}, {"prefixItems": [{}], "maxItems": 1}),
        ({"propertyNames": {"enum": ["a"]}}, {"properties": {"a": True}}),
        ({"propertyNames": {"pattern": "^a"}}, {"patternProperties": {"^a": True}}),
        ({"properties": {"a": {"required": True}}}, {"required": ["a"]}),
    ],
    ids=str,
)
def test_older_and_other_wordings_are_understood(schema: Json, prepared: Json) -> None:
    found = prepare(schema)
    assert {key: found[key] for key in prepared} == prepared
    if "properties" not in schema and "propertyNames" not in schema:
        assert found == prepared
    assert passed_over(schema) == ()


@pytest.mark.parametrize(
    ("schema", "keywords"),
    [
        ({"uniqueItems": True}, ("uniqueItems",)),
        ({"uniqueItems": False}, ()),
        ({"not": {"type": "null"}}, ("not",)),
        ({"if": {"minimum": 3}, "then": {"maximum": 4}}, ("if", "then")),
        ({"contains": STRING, "minContains": 2}, ("contains", "minContains")),
        ({"format": "path"}, ("format: path",)),
        ({"propertyNames": {"maxLength": 3}}, ("propertyNames",)),
        ({"oneOf": [{"minimum": 3}, {"maximum": 4}]}, ("oneOf",)),
        ({"oneOf": [STRING, {"type": "null"}]}, ()),
        ({"oneOf": [STRING]}, ()),
        ({"properties": {"a": {}}, "minProperties": 1}, ()),
        ({"properties": {"a": {}}, "minProperties": 2}, ("minProperties",)),
        ({"properties": {"a": {"not": STRING}}}, ("not",)),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"not": STRING}, "b": {"if": {}}}}, ("not",)),
    ],
    ids=str,
)
def test_what_a_grammar_cannot_follow_is_noted(schema: Json, keywords: tuple[str, ...]) -> None:
    assert passed_over(schema) == keywords


def test_a_pattern_that_no_grammar_follows_is_weakened_or_left_out() -> None:
    pattern = "^(?=a)[a-z]+$"
    kept = prepare_schema({"pattern": pattern}, lambda text: "(?=" not in text)
    assert kept.schema == {"pattern": "^[a-z]+$"}
    dropped = prepare_schema({"pattern": pattern}, lambda text: False)
    assert dropped.schema == {}
    assert kept.passed_over == dropped.passed_over == (f"pattern: {pattern}",)


def test_only_definitions_that_are_needed_are_kept() -> None:
    definitions = {"a": {"items": {"$ref": "#/$defs/b"}}, "b": STRING, "c": {"type": "bogus"}}
    prepared = prepare({"$ref": "#/$defs/a", "$defs": definitions})
    assert prepared == {
        "$ref": "#/$defs/d0",
        "$defs": {"d0": {"items": {"$ref": "#/$defs/d1"}}, "d1": STRING},
    }


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "banana"}, "'banana' is not one of null, boolean"),
        ({"type": 3}, "type must be a string"),
        ({"required": "a"}, "required must be an array of strings"),
        ({"items": {"minimum": "3"}}, "minimum must be a number"),
        ({"properties": []}, "properties must be an object of schemas"),
        ({"anyOf": {"type": "string"}}, "anyOf must be an array of schemas"),
        ({"minItems": True}, "minItems must be a whole number"),
        ({"$ref": "#/nowhere"}, "'#/nowhere' names a place that is not there"),
        ({"$ref": "other.json"}, "'other.json' names another document"),
        ({"$ref": "#"}, "refers to itself without an end"),
        ({"allOf": [{"$ref": "#"}]}, "refers to itself without an end"),
        ({"items": {"$ref": "#"}, "minItems": 1, "type": "array"}, "without an end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "without an end"),
        ({"not": {}}, "the schema allows no answer"),
        ({"allOf": [False, {}]}, "the schema allows no answer"),
    ],
    ids=str,
)
def test_what_is_no_schema_is_refused(schema: Json, reason: str) -> None:
    with pytest.raises(InvalidSchema, match=reason) as caught:
        prepare(schema)
    assert str(caught.value).startswith("invalid format: ")


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#"}}},
        {"anyOf": [{"$ref": "#"}, STRING]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
    ids=str,
)
def test_recursion_that_can_end_is_kept(schema: Json) -> None:
    assert prepare(schema)["$defs"]


def test_an_alternative_without_an_end_is_left_out() -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#/$defs/e"}}, "required": ["a"]}
    prepared = prepare({"anyOf": [STRING, {"$ref": "#/$defs/e"}], "$defs": {"e": endless}})
    assert list(prepared["$defs"].values()) == [False]


def test_deep_inheritance_stays_small() -> None:
    """Each merge copies its parts, so that merges in merges would grow without bound."""
    names = [f"p{i}" for i in range(12)]
    parts = {
        name: {"allOf": [{"$ref": "#/$defs/base"}, {"properties": {name: {"type": "null"}}}]}
        for name in names
    }
    schema = {"$ref": "#/$defs/base", "$defs": {"base": {"properties": parts}}}
    assert len(str(prepare(schema))) < 300_000
