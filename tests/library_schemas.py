"""JSON schemas as libraries make them, each with an answer and a wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]
DRAFT_4: Final = "http://json-schema.org/draft-04/schema#"
DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"
DRAFT_2020: Final = "https://json-schema.org/draft/2020-12/schema"
STRING: Final = {"type": "string"}
SAFE: Final = 9007199254740991  # the largest whole number of JavaScript


@dataclass(frozen=True)
class LibrarySchema:
    """`passed_over`: what of it a grammar does not follow."""

    name: str
    schema: Json
    answer: str
    wrong: str
    passed_over: tuple[str, ...] = ()


PYDANTIC: Final = (
    LibrarySchema(
        "a model with optional and nested fields",
        {
            "$defs": {
                "Address": {
                    "properties": {
                        "street": {"title": "Street", "type": "string"},
                        "zip": {"anyOf": [STRING, {"type": "null"}], "default": None},
                    },
                    "required": ["street"],
                    "title": "Address",
                    "type": "object",
                }
            },
            "properties": {
                "name": {"description": "full name", "title": "Name", "type": "string"},
                "home": {"$ref": "#/$defs/Address", "description": "where", "default": None},
            },
            "required": ["name"],
            "title": "Person",
            "type": "object",
        },
        '{"name": "Bob", "home": {"street": "A", "zip": null}}',
        '{"name": "Bob", "age": 3}',
    ),
    LibrarySchema(
        "a discriminated union",
        {
            "$defs": {
                "Cat": {
                    "properties": {
                        "kind": {"const": "cat", "default": "cat", "type": "string"},
                        "lives": {"exclusiveMinimum": 0, "maximum": 9, "type": "integer"},
                    },
                    "required": ["kind", "lives"],
                    "type": "object",
                },
                "Dog": {
                    "properties": {"kind": {"const": "dog", "type": "string"}},
                    "required": ["kind"],
                    "type": "object",
                },
            },
            "properties": {
                "pet": {
                    "discriminator": {
                        "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                        "propertyName": "kind",
                    },
                    "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
                }
            },
            "required": ["pet"],
            "type": "object",
        },
        '{"pet": {"kind": "cat", "lives": 9}}',
        '{"pet": {"kind": "cat", "lives": 0}}',
        ("oneOf",),
    ),
    LibrarySchema(
        "a recursive model",
        {
            "$defs": {
                "Node": {
                    "properties": {
                        "value": {"type": "integer"},
                        "children": {
                            "items": {"$ref": "#/$defs/Node"},
                            "default": [],
                            "type": "array",
                        },
                    },
                    "required": ["value"],
                    "type": "object",
                }
            },
            "$ref": "#/$defs/Node",
        },
        '{"value": 1, "children": [{"value": 2, "children": []}]}',
        '{"value": 1, "children": [{"worth": 2}]}',
    ),
    LibrarySchema(
        "sets, tuples, decimals and dates",
        {
            "properties": {
                "tags": {"items": STRING, "type": "array", "uniqueItems": True},
                "pair": {
                    "maxItems": 2,
                    "minItems": 2,
                    "prefixItems": [{"type": "integer"}, STRING],
                    "type": "array",
                },
                "price": {
                    "anyOf": [
                        {"type": "number"},
                        {"pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", "type": "string"},
                    ]
                },
                "day": {"format": "date", "type": "string"},
                "file": {"format": "path", "type": "string"},
            },
            "required": ["tags", "pair", "price", "day", "file"],
            "type": "object",
        },
        '{"tags": ["a"], "pair": [1, "b"], "price": 2.5, "day": "2024-02-29", "file": "/x"}',
        '{"tags": ["a"], "pair": [1, "b", 2]',
        ("uniqueItems", "pattern: ^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", "format: path"),
    ),
    LibrarySchema(
        "a generic model with a bracket in its name, and a mapping",
        {
            "$defs": {"Box[int]": {"properties": {"of": {"type": "integer"}}, "type": "object"}},
            "properties": {
                "box": {"allOf": [{"$ref": "#/$defs/Box%5Bint%5D"}], "description": "version 1"},
                "scores": {"additionalProperties": {"type": "number"}, "type": "object"},
            },
            "type": "object",
        },
        '{"box": {"of": 1}, "scores": {"any": 1.5}}',
        '{"box": {"off": 1}',
    ),
    LibrarySchema(
        "a model that forbids and one that allows more",
        {
            "$defs": {
                "Open": {"additionalProperties": True, "properties": {"a": STRING}},
                "Empty": {"properties": {}, "title": "Empty", "type": "object"},
            },
            "additionalProperties": False,
            "properties": {"open": {"$ref": "#/$defs/Open"}, "empty": {"$ref": "#/$defs/Empty"}},
            "type": "object",
        },
        '{"open": {"a": "x", "b": [1]}, "empty": {}}',
        '{"empty": {"b"',
    ),
    LibrarySchema(
        "an enumeration of mixed types",
        {"enum": [1, "two", None, {"three": 3}, 4.5], "title": "Mixed"},
        '{"three": 3}',
        '"three"',
    ),
)

ZOD: Final = (
    LibrarySchema(
        "version 4: whole numbers, records and tuples",
        {
            "$schema": DRAFT_2020,
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": -SAFE, "maximum": SAFE},
                "by": {
                    "type": "object",
                    "propertyNames": {"type": "string", "enum": ["a", "b"]},
                    "additionalProperties": {"type": "number"},
                },
                "two": {"type": "array", "prefixItems": [STRING, {"type": "number"}]},
            },
            "required": ["n", "by", "two"],
            "additionalProperties": False,
        },
        '{"n": 5, "by": {"a": 1}, "two": ["x", 2]}',
        '{"n": 5, "by": {"c"',
    ),
    LibrarySchema(
        "version 4: never, an e-mail address and a link",
        {
            "$schema": DRAFT_2020,
            "type": "object",
            "properties": {
                "no": {"not": {}},
                "mail": {
                    "type": "string",
                    "format": "email",
                    "pattern": "^(?!\\.)[A-Za-z0-9_.]+@([a-z-]+\\.)+[A-Za-z]{2,}$",
                },
                "link": {"type": "string", "format": "uri"},
            },
            "required": ["mail", "link"],
        },
        '{"mail": "a@b.cd", "link": "http://x.y"}',
        '{"no"',
        ("pattern: ^(?!\\.)[A-Za-z0-9_.]+@([a-z-]+\\.)+[A-Za-z]{2,}$",),
    ),
    LibrarySchema(
        "zod-to-json-schema: a lazy type by its path, an intersection",
        {
            "$ref": "#/definitions/reply",
            "definitions": {
                "reply": {
                    "type": "object",
                    "properties": {
                        "left": {"$ref": "#/definitions/reply"},
                        "both": {
                            "allOf": [
                                {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
                                {"type": "object", "properties": {"b": {"type": "boolean"}}},
                            ]
                        },
                        "same": {"$ref": "#/definitions/reply/properties/both"},
                    },
                    "required": ["both"],
                    "additionalProperties": False,
                }
            },
            "$schema": DRAFT_7,
        },
        '{"left": {"both": {"a": "x"}}, "both": {"a": "x", "b": true}, "same": {"a": "y"}}',
        '{"both": {"a": "x", "c"',
    ),
    LibrarySchema(
        "zod-to-json-schema: a tuple with a rest, a nullable, and a limit by a flag (draft 4)",
        {
            "type": "object",
            "properties": {
                "row": {"type": "array", "items": [STRING], "additionalItems": {"type": "number"}},
                "gap": {"type": ["string", "null"]},
                "more": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            },
            "required": ["row", "gap", "more"],
            "additionalProperties": False,
            "$schema": DRAFT_4,
        },
        '{"row": ["a", 1, 2], "gap": null, "more": 0.5}',
        '{"row": ["a", "b"]',
    ),
)

TOOLS: Final = (
    LibrarySchema(
        "OpenAI's strict mode",
        {
            "type": "object",
            "properties": {
                "steps": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"explanation": STRING, "output": STRING},
                        "required": ["explanation", "output"],
                        "additionalProperties": False,
                    },
                },
                "final": {"type": ["string", "null"]},
            },
            "required": ["steps", "final"],
            "additionalProperties": False,
            "strict": True,
        },
        '{"steps": [{"explanation": "a", "output": "b"}], "final": null}',
        '{"steps": [{"explanation": "a"}]',
    ),
    LibrarySchema(
        "OpenAI's strict mode: recursion at the root",
        {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["div", "button"]},
                "children": {"type": "array", "items": {"$ref": "#"}},
            },
            "required": ["type", "children"],
            "additionalProperties": False,
        },
        '{"type": "div", "children": [{"type": "button", "children": []}]}',
        '{"type": "div", "children": [{"type": "span"',
    ),
    LibrarySchema(
        "Gemini's libraries: types in capitals, nullable, an order of properties",
        {
            "type": "OBJECT",
            "properties": {
                "name": {"type": "STRING", "nullable": True},
                "count": {"type": "INTEGER", "format": "int32"},
            },
            "required": ["name", "count"],
            "propertyOrdering": ["name", "count"],
        },
        '{"name": null, "count": 3}',
        '{"name": 3',
        ("format: int32",),
    ),
    LibrarySchema(
        "LangChain: parameters of a tool",
        {
            "description": "Multiply.",
            "properties": {"a": {"type": "integer"}, "b": {"default": 2, "type": "integer"}},
            "required": ["a"],
            "title": "multiply",
            "type": "object",
        },
        '{"a": 3, "b": 4}',
        '{"a": "3"',
    ),
    LibrarySchema(
        "Vercel's ai: an object around an array, around an enumeration",
        {
            "$schema": DRAFT_7,
            "type": "object",
            "properties": {"elements": {"type": "array", "items": {"enum": ["red", "blue"]}}},
            "required": ["elements"],
            "additionalProperties": False,
        },
        '{"elements": ["red", "blue"]}',
        '{"elements": ["green"',
    ),
    LibrarySchema(
        "typia: names with a slash and a space",
        {
            "$ref": "#/components/schemas/A~1B%20C",
            "components": {
                "schemas": {
                    "A/B C": {"type": "object", "properties": {"n": {"type": "number"}}},
                }
            },
        },
        '{"n": 1.5}',
        '{"m"',
    ),
    LibrarySchema(
        "OpenAPI 3.0: inheritance",
        {
            "allOf": [
                {"$ref": "#/definitions/Animal"},
                {"type": "object", "properties": {"bark": {"type": "boolean"}}},
            ],
            "definitions": {
                "Animal": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": STRING, "kin": {"$ref": "#/definitions/Animal"}},
                    "example": {"name": "Rex"},
                }
            },
        },
        '{"name": "Rex", "kin": {"name": "Max"}, "bark": true}',
        '{"name": "Rex", "purr"',
    ),
    LibrarySchema(
        "an MCP server: alternatives of required properties",
        {
            "type": "object",
            "properties": {"id": {"type": "integer"}, "name": STRING},
            "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
        },
        '{"name": "x"}',
        "{}",
    ),
    LibrarySchema(
        "an MCP server: conditions, dependencies and what else no grammar follows",
        {
            "type": "object",
            "properties": {"a": STRING, "c": {"not": {"const": 3}}},
            "if": {"required": ["a"]},
            "then": {"required": ["b"]},
            "dependentRequired": {"a": ["d"]},
            "minProperties": 2,
            "unevaluatedProperties": False,
        },
        '{"a": "x", "c": 4, "d": [], "b": 1}',
        '{"a": "x", "e"',
        ("if", "then", "dependentRequired", "not", "minProperties"),
    ),
    LibrarySchema(
        "TypeBox: anchors and identifiers",
        {
            "$id": "https://example.com/tree",
            "type": "object",
            "properties": {"next": {"$ref": "https://example.com/tree"}, "t": {"$ref": "#leaf"}},
            "$defs": {"leaf": {"$anchor": "leaf", "type": "boolean"}},
        },
        '{"next": {"t": true}, "t": false}',
        '{"next": {"t": 1',
    ),
    LibrarySchema(
        "a map whose keys follow a pattern",
        {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]+$"},
            "additionalProperties": {"type": "integer"},
        },
        '{"abc": 1}',
        '{"A"',
    ),
    LibrarySchema("any object", {"type": "object"}, '{"a": [1, {"b": null}]}', "[1]"),
    LibrarySchema("anything", {}, "[1, true]", "x"),
)
LIBRARY_SCHEMAS: Final = (*PYDANTIC, *ZOD, *TOOLS)
