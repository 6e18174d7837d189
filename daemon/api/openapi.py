"""Which routes are there, and what do they read? An OpenAPI 3.1 document of all dialects.

The schemas of the requests are those of the pydantic models; the table of routes is by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as package_version

from aiohttp import web
from pydantic.json_schema import models_json_schema

from ..options import OPTION_TYPES
from .anthropic import wire as anthropic
from .json_response import json_response
from .ollama import wire as ollama
from .openai import responses_wire
from .openai import wire as openai
from .plan import PlanRequest
from .systemone import wire as systemone
from .wire_model import WireModel

Json = dict[str, object]

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
NDJSON, SSE = "application/x-ndjson", "text/event-stream"
BYTES = "application/octet-stream"
SCHEMAS = "#/components/schemas/"
STRING: Json = {"type": "string"}
OWN_PATHS = (
    *("/v1/systemone", "/metrics", "/openapi.json", "/api/plan"),
    *("/api/snapshot", "/api/live", "/api/doctor"),
)
NATIVE, OPENAI, ANTHROPIC = "OllamaError", "OpenAIError", "AnthropicError"
ERRORS: Json = {  # the bodies of CONTRACT 0, 2.1 and 3
    NATIVE: {"type": "object", "required": ["error"], "properties": {"error": STRING}},
    OPENAI: {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type"],
                "properties": {
                    "message": STRING,
                    "type": STRING,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    ANTHROPIC: {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {"type": "object", "properties": {"type": STRING, "message": STRING}},
            "request_id": STRING,
        },
    },
}
KEYS: Json = {  # how a request carries an API key
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
OPTION_KINDS = {  # JSON types by the first word of an annotation
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "tuple[str,": {"type": "array", "items": STRING},
}


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """One line of the document."""

    route: str  # method and path
    summary: str
    body: type[WireModel] | str | None = None  # its fields, or its media type
    answers: tuple[str, ...] = (JSON,)  # media types; none: an empty body


ROUTES = (
    RouteFacts("GET /", "Whether the daemon is there", answers=(TEXT,)),
    RouteFacts("GET /metrics", "Counters for Prometheus", answers=(TEXT,)),
    RouteFacts("GET /openapi.json", "This document"),
    RouteFacts("GET /ui", "The page that shows what the daemon does", answers=(HTML,)),
    RouteFacts("GET /ui/{name}", "A file of that page", answers=(BYTES,)),
    RouteFacts("GET /api/snapshot", "What the daemon is doing"),
    RouteFacts("GET /api/live", "The same, once a second", answers=(SSE,)),
    RouteFacts("POST /api/doctor", "What is wrong with the machine"),
    RouteFacts("GET /api/version", "The version of Ollama's API"),
    RouteFacts("GET /api/status", "Whether a cloud is used"),
    RouteFacts("GET /api/tags", "The models on disk"),
    RouteFacts("GET /api/ps", "The loaded models"),
    RouteFacts("POST /api/plan", "What a model would take in memory", PlanRequest),
    RouteFacts("POST /api/show", "Everything about a model", ollama.ShowRequest),
    RouteFacts("POST /api/generate", "Text after a prompt", ollama.GenerateRequest, (NDJSON, JSON)),
    RouteFacts("POST /api/chat", "The next message of a chat", ollama.ChatRequest, (NDJSON, JSON)),
    RouteFacts("POST /api/embed", "Vectors of texts", ollama.EmbedRequest),
    RouteFacts("POST /api/embeddings", "The vector of one text", ollama.EmbeddingsRequest),
    RouteFacts("POST /api/create", "A new model", ollama.CreateRequest, (NDJSON, JSON)),
    RouteFacts("POST /api/copy", "A second name for a model", ollama.CopyRequest, ()),
    RouteFacts("DELETE /api/delete", "Remove a model", ollama.NameRequest, ()),
    RouteFacts("POST /api/pull", "Fetch a model", ollama.PullRequest, (NDJSON, JSON)),
    RouteFacts("POST /api/push", "Send a model", ollama.PullRequest, (NDJSON, JSON)),
    RouteFacts("HEAD /api/blobs/{digest}", "Whether a file is there", answers=()),
    RouteFacts("POST /api/blobs/{digest}", "Upload a file", BYTES, ()),
    RouteFacts("POST /api/me", "The account; there is none"),
    RouteFacts("POST /api/signout", "Sign out; nobody is signed in"),
    RouteFacts("DELETE /api/user/keys/{key}", "Older form of signing out"),
    RouteFacts("POST /api/experimental/web_search", "A service of the cloud; refused"),
    RouteFacts("POST /api/experimental/web_fetch", "A service of the cloud; refused"),
    RouteFacts("GET /api/experimental/model-recommendations", "Recommended models; none"),
    RouteFacts(
        "POST /v1/chat/completions",
        "The next message of a chat, as in OpenAI's API",
        openai.ChatCompletionRequest,
        (JSON, SSE),
    ),
    RouteFacts(
        "POST /v1/completions",
        "Text after a prompt, as in OpenAI's API",
        openai.TextCompletionRequest,
        (JSON, SSE),
    ),
    RouteFacts("POST /v1/embeddings", "Vectors, as in OpenAI's API", openai.EmbeddingCreateRequest),
    RouteFacts("GET /v1/models", "The models on disk, as in OpenAI's API"),
    RouteFacts("GET /v1/models/{id}", "One model, as in OpenAI's API"),
    RouteFacts(
        "POST /v1/responses",
        "A response, as in OpenAI's API",
        responses_wire.ResponsesRequest,
        (JSON, SSE),
    ),
    RouteFacts(
        "POST /v1/messages",
        "The next message, as in Anthropic's API",
        anthropic.MessagesRequest,
        (JSON, SSE),
    ),
    RouteFacts(
        "POST /v1/messages/count_tokens",
        "How many tokens a message has, as in Anthropic's API",
        anthropic.CountRequest,
    ),
    RouteFacts("POST /v1/systemone", "Answers with probabilities", systemone.DecisionRequest),
)


async def openapi(_request: web.Request) -> web.Response:
    """GET /openapi.json"""
    return json_response(describe_api())


@cache
def describe_api() -> Json:
    """The document (OpenAPI 3.1.0)."""
    paths: dict[str, Json] = {}
    for facts in ROUTES:
        method, path = facts.route.split()
        paths.setdefault(path, {})[method.lower()] = _operation(facts, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outrider",
            "version": package_version("outrider"),
            "description": "Local language models behind the APIs of Ollama, OpenAI and Anthropic.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": KEYS},
        "security": [{}, *({name: []} for name in KEYS)],  # {}: a daemon that has no keys
    }


def _schemas() -> Json:
    """The bodies of requests and errors by their names."""
    models = dict.fromkeys(facts.body for facts in ROUTES if isinstance(facts.body, type))
    _, document = models_json_schema(
        [(model, "validation") for model in models], ref_template=SCHEMAS + "{model}"
    )
    schemas: dict[str, Json] = document["$defs"]
    for schema in schemas.values():
        properties = schema.get("properties")
        if isinstance(properties, dict) and "options" in properties and "model" in properties:
            properties["options"] = {"$ref": f"{SCHEMAS}Options"}
    return {**schemas, **ERRORS, "Options": _options()}


def _options() -> Json:
    """The options of CONTRACT 1.5; others are ignored."""
    kinds = {name: OPTION_KINDS[kind.split()[0]] for name, kind in OPTION_TYPES.items()}
    return {"type": "object", "title": "Options", "properties": kinds}


def _operation(facts: RouteFacts, path: str) -> Json:
    operation: Json = {
        "summary": facts.summary,
        "operationId": _identifier(facts.route),
        "tags": [_dialect(path)],
        "responses": {
            "200": {"description": facts.summary, **_content(facts.answers)},
            "default": {
                "description": "Why the request failed",
                "content": {JSON: {"schema": {"$ref": SCHEMAS + _error(path)}}},
            },
        },
    }
    if parameters := [_parameter(part) for part in path.split("/") if part.startswith("{")]:
        operation["parameters"] = parameters
    if isinstance(facts.body, str):
        schema: Json = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, "content": {facts.body: {"schema": schema}}}
    elif facts.body:
        content = {JSON: {"schema": {"$ref": SCHEMAS + facts.body.__name__}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _content(media_types: Iterable[str]) -> Json:
    """Of an answer: an object, or a text of objects, one for each line or event."""
    kinds = {kind: {"schema": {"type": "object"} if kind == JSON else STRING}
             for kind in media_types}  # fmt: skip
    return {"content": kinds} if kinds else {}


def _parameter(part: str) -> Json:
    return {"name": part.strip("{}"), "in": "path", "required": True, "schema": STRING}


def _identifier(route: str) -> str:
    words = route.replace("{", "").replace("}", "").replace("/", " ").replace(".", " ")
    return "_".join(words.replace("-", " ").lower().split())


def _dialect(path: str) -> str:
    if path.startswith("/v1/messages"):
        return "Anthropic"
    if path in OWN_PATHS or path.startswith("/ui"):
        return "Outrider"
    return "OpenAI" if path.startswith("/v1/") else "Ollama"


def _error(path: str) -> str:
    names = {"Anthropic": ANTHROPIC, "OpenAI": OPENAI}
    return names.get(_dialect(path), NATIVE)
