"""litellm over all three dialects."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest
from daemons import Daemon
from pydantic import BaseModel
from scripted_models import (
    CALL_THOUGHT,
    CALLER,
    CITY,
    HELLO,
    PERSON,
    REPORT,
    ROUTER,
    TALKER,
    THINKER,
    THOUGHT,
)

pytestmark = pytest.mark.clients

BERT = "bert"  # the model for embeddings (conftest.py)

HI = [{"role": "user", "content": "Hi!"}]
ASK = [{"role": "user", "content": "How is the weather?"}]
PATHS = {"ollama_chat": "", "openai": "/v1", "anthropic": ""}  # of the address, by the dialect
THINKING: dict[str, dict[str, Any]] = {
    "ollama_chat": {"reasoning_effort": "low"},
    "openai": {},
    "anthropic": {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 2048,
        "allowed_openai_params": ["thinking"],  # which litellm knows of Claude alone
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
dialects = pytest.mark.parametrize("dialect", PATHS)


class Person(BaseModel):
    name: str
    age: int


def complete(served: Daemon, dialect: str, model: str, **fields: Any) -> Any:
    return litellm.completion(
        model=f"{dialect}/{model}",
        api_base=served.url + PATHS[dialect],
        api_key="unused",
        num_retries=0,
        **{"messages": HI, **fields},
    )


@dialects
def test_chat_and_its_stream_agree(served: Daemon, dialect: str) -> None:
    whole = complete(served, dialect, TALKER)
    assert whole.choices[0].message.content == HELLO
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens > 0
    assert whole.usage.prompt_tokens > 0
    stream = complete(served, dialect, TALKER, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == HELLO
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@dialects
async def test_async_chats(served: Daemon, dialect: str) -> None:
    whole = await litellm.acompletion(
        model=f"{dialect}/{TALKER}",
        messages=HI,
        api_base=served.url + PATHS[dialect],
        api_key="unused",
    )
    assert whole.choices[0].message.content == HELLO


@dialects
@pytest.mark.parametrize("stream", [False, True])
def test_thoughts(served: Daemon, dialect: str, stream: bool) -> None:
    answer = complete(served, dialect, THINKER, stream=stream, **THINKING[dialect])
    if stream:
        answer = litellm.stream_chunk_builder(list(answer))
    message = answer.choices[0].message
    assert message.content == HELLO
    assert message.reasoning_content.strip() == THOUGHT


@dialects
@pytest.mark.parametrize("model", [ROUTER, CALLER])
@pytest.mark.parametrize("stream", [False, True])
def test_tools(served: Daemon, dialect: str, model: str, stream: bool) -> None:
    called = complete(served, dialect, model, messages=ASK, tools=[WEATHER], stream=stream)
    if stream:
        called = litellm.stream_chunk_builder(list(called))
    choice = called.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": CITY}
    for marker in ("<think>", "</think>", "<tool_call>", CALL_THOUGHT):
        assert marker not in (choice.message.content or "")
    result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "21"}
    messages = [*ASK, choice.message.model_dump(exclude_none=True), result]
    told = complete(served, dialect, model, messages=messages, tools=[WEATHER])
    assert told.choices[0].message.content == REPORT


@dialects
def test_structured_answers(served: Daemon, dialect: str) -> None:
    ask = [{"role": "user", "content": "Tell me of a person."}]
    answer = complete(served, dialect, ROUTER, messages=ask, response_format=Person)
    assert Person.model_validate_json(answer.choices[0].message.content) == Person(**PERSON)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_forced_call(served: Daemon, dialect: str, choice: object) -> None:
    fields = {"messages": ASK, "tools": [WEATHER], "tool_choice": choice}
    called = complete(served, dialect, ROUTER, **fields)
    (call,) = called.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": CITY}


@dialects
def test_max_tokens_and_stop(served: Daemon, dialect: str) -> None:
    short = complete(served, dialect, TALKER, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    ended = complete(served, dialect, TALKER, stop=["model"])
    assert ended.choices[0].message.content.strip() == "Hello! I am a small"


@pytest.mark.parametrize(("dialect", "path"), [("ollama", ""), ("openai", "/v1")])
def test_embeddings(served: Daemon, dialect: str, path: str) -> None:
    found = litellm.embedding(
        model=f"{dialect}/{BERT}",
        input=["a red house", "a blue house"],
        api_base=served.url + path,
        api_key="unused",
    )
    assert len(found.data) == 2
    assert len(found.data[0]["embedding"]) > 0


@dialects
def test_a_model_that_is_missing(served: Daemon, dialect: str) -> None:
    with pytest.raises(litellm.exceptions.NotFoundError, match="not found"):
        complete(served, dialect, "missing")
