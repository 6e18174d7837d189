"""Does the OpenAPI document tell every route, and is it one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from front import Front
from outrider.daemon.api.openapi import describe_api
from outrider.daemon.options import OPTION_TYPES

pytestmark = pytest.mark.unit

MEDIA = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "object", "required": ["schema"]},
}
RESPONSE = {
    "type": "object",
    "required": ["description"],
    "properties": {"description": {"type": "string"}, "content": MEDIA},
}
OPERATION = {
    "type": "object",
    "required": ["summary", "operationId", "tags", "responses"],
    "additionalProperties": False,
    "properties": {
        "summary": {"type": "string", "minLength": 1},
        "operationId": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "in", "schema", "required"],
                "properties": {"in": {"const": "path"}, "required": {"const": True}},
            },
        },
        "requestBody": {
            "type": "object",
            "required": ["content"],
            "properties": {"content": MEDIA, "required": {"type": "boolean"}},
        },
        "responses": {
            "type": "object",
            "propertyNames": {"pattern": "^([1-5][0-9][0-9]|default)$"},
            "additionalProperties": RESPONSE,
        },
    },
}
DOCUMENT = {  # what OpenAPI 3.1.0 demands of the parts that are used here
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "additionalProperties": {"type": "string"},
        },
        "paths": {
            "type": "object",
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "type": "object",
                "propertyNames": {"enum": ["get", "head", "post", "delete"]},
                "additionalProperties": OPERATION,
            },
        },
        "security": {"type": "array", "items": {"type": "object"}},
        "components": {
            "type": "object",
            "properties": {"schemas": {"propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"}}},
        },
    },
}


def document() -> Any:
    return describe_api()


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_keys_may_be_sent_in_two_ways_or_not_at_all() -> None:
    schemes = document()["components"]["securitySchemes"]
    assert document()["security"] == [{}, *({name: []} for name in schemes)]


async def test_every_route_is_described(front: Front) -> None:
    app = front.client.app
    assert isinstance(app, web.Application)
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource
    }
    told = {(path, method) for path, item in document()["paths"].items() for method in item}
    gets = {path for path, method in routes if method == "get"}
    routes -= {(path, "head") for path in gets}  # every GET has its HEAD
    assert told == routes, "add the route to ROUTES in daemon/api/openapi.py"


async def test_it_is_served(front: Front) -> None:
    assert await front.get("/openapi.json") == (200, document())


def test_it_is_an_openapi_document() -> None:
    jsonschema.Draft202012Validator(DOCUMENT).validate(document())
    operations = [o["operationId"] for item in document()["paths"].values() for o in item.values()]
    assert len(operations) == len(set(operations)) > 30


def test_every_path_parameter_is_declared() -> None:
    for path, item in document()["paths"].items():
        in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        for operation in item.values():
            assert [p["name"] for p in operation.get("parameters", [])] == in_path


def test_schemas_are_schemas_and_references_lead_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    targets = set(references(document()))
    assert len(targets) > 20
    assert {f"#/components/schemas/{name}" for name in schemas} >= targets


@pytest.mark.parametrize(
    ("name", "body", "fits"),
    [
        ("ChatRequest", {"model": "m", "messages": [{"role": "user", "content": "x"}]}, True),
        ("ChatRequest", {"model": "m", "messages": "x"}, False),
        ("ChatRequest", {"model": "m", "think": "high", "keep_alive": "5m"}, True),
        ("ChatRequest", {"model": "m", "think": "very", "keep_alive": 5}, False),
        ("ChatRequest", {"model": "m", "options": {"stop": "x"}}, False),
        ("EmbedRequest", {"model": "m", "input": "x"}, True),
        ("EmbedRequest", {"model": "m", "input": ["x"], "options": {"num_ctx": 9}}, True),
        ("EmbedRequest", {"model": "m", "input": [1]}, False),
        ("OllamaError", {"error": "why"}, True),
        ("OpenAIError", {"error": "why"}, False),
    ],
)
def test_the_schemas_tell_bodies_apart(name: str, body: object, fits: bool) -> None:
    schemas = document()["components"]["schemas"]
    root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    assert jsonschema.Draft202012Validator(root).is_valid(body) is fits


def test_the_options_are_those_of_the_daemon() -> None:
    properties = document()["components"]["schemas"]["Options"]["properties"]
    assert properties.keys() == OPTION_TYPES.keys()
    assert properties["num_ctx"] == {"type": "integer"}
    assert properties["use_mmap"] == {"type": "boolean"}
