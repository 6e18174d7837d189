"""How OpenAI's parameters become options, a schema and the wish for thinking (CONTRACT 2.2)."""

from __future__ import annotations

import json

import pytest
from outrider.daemon.api.openai.parameters import max_tokens, read_think, response_schema
from outrider.daemon.api.openai.wire import ChatCompletionRequest, TextCompletionRequest

pytestmark = pytest.mark.unit

SCHEMA = {"type": "object", "properties": {"Q": {"type": "string", "default": None}}}


def parse(**fields: object) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 4}, 4),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 3),
        ({"max_tokens": None, "max_completion_tokens": 4}, 4),
    ],
)
def test_the_limit(fields: dict[str, object], limit: int | None) -> None:
    assert max_tokens(parse(**fields)) == limit


def test_the_older_route_has_one_limit() -> None:
    body = TextCompletionRequest.model_validate({"max_tokens": 3, "max_completion_tokens": 4})
    assert max_tokens(body) == 3


@pytest.mark.parametrize(
    ("stop", "stops"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), (["a", 3, ""], ["a"]), ([], []), (None, []),
     ("", [])],
)  # fmt: skip
def test_stop(stop: object, stops: list[str]) -> None:
    assert parse(stop=stop).stop == stops


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, {}),
    ],
)
def test_a_response_format(response_format: object, schema: object) -> None:
    text = response_schema(parse(response_format=response_format).response_format)
    assert (json.loads(text) if text else None) == schema


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "none"}, "high"),
        ({"reasoning": {"effort": ""}, "reasoning_effort": "none"}, None),
        ({"reasoning": {"effort": None, "summary": "auto"}}, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True, "other": 1}}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"}, "low"),
        ({"think": False}, None),
    ],
)
def test_the_wish_for_thinking(fields: dict[str, object], think: bool | str | None) -> None:
    assert read_think(parse(**fields)) == think
