"""format and logprobs on the real model (CONTRACT 1.2 and 1.8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, Json
from scripted_models import CALL, CALLER, RESULT, TALKER, TEMPLATE, THINK, THINKER, THOUGHT
from tiny_scripted import write_scripted
from weights import import_gguf

pytestmark = pytest.mark.contract

SMOL = "smollm2:135m"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def chat(**fields: Any) -> Json:
    ask = [{"role": "user", "content": "Describe a person named Bob as JSON."}]
    options = {"temperature": 0.8, "seed": 4, "num_predict": 200}
    return {"model": SMOL, "messages": ask, "stream": False, "options": options, **fields}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_answer_follows_the_schema(daemon: Daemon, seed: int) -> None:
    options = {"temperature": 1.2, "seed": seed, "num_predict": 200}
    answer = daemon.post("/api/chat", chat(format=SCHEMA, options=options))[1]
    assert answer["done_reason"] == "stop"
    person = json.loads(answer["message"]["content"])
    assert set(person) == {"name", "age", "tags"}
    assert 0 <= person["age"] <= 120
    assert set(person["tags"]) <= {"red", "blue"}


def test_json_means_any_object(daemon: Daemon) -> None:
    answer = daemon.post("/api/chat", chat(format="json"))[1]
    if answer["done_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)
    assert answer["message"]["content"].lstrip().startswith("{")


@pytest.mark.parametrize("schema", [{"type": "bogus"}, {"$ref": "#/nowhere"}])
def test_a_bad_schema_is_refused(daemon: Daemon, schema: Json) -> None:
    status, answer = daemon.post("/api/chat", chat(format=schema))
    assert status == 400
    assert answer["error"].startswith("invalid format: ")
    assert 'expected "json" or a valid JSON Schema object' in answer["error"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": ["a" + "é" * 60]},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(6000)}},
    ],
    ids=["wrong type", "too complex"],
)
def test_a_schema_that_fails_disturbs_no_other_answer(daemon: Daemon, schema: Json) -> None:
    body = {"model": "tiny", "prompt": "go", "raw": True, "options": {"num_predict": 600}}
    lines = daemon.lines("/api/generate", body)
    first = next(lines)
    status, answer = daemon.post("/api/generate", {**body, "stream": False, "format": schema})
    assert status == 400
    assert answer.keys() == {"error"}
    assert answer["error"].startswith("invalid format: ")
    last = [first, *lines][-1]
    assert last["done_reason"] == "length"
    assert last["eval_count"] == 600


def test_logprobs_tell_every_token(daemon: Daemon) -> None:
    options = {"temperature": 0, "num_predict": 10}
    body = chat(logprobs=True, top_logprobs=3, options=options)
    answer = daemon.post("/api/chat", body)[1]
    entries = answer["logprobs"]
    assert len(entries) == answer["eval_count"] == 10
    assert "".join(entry["token"] for entry in entries) == answer["message"]["content"]
    for entry in entries:
        assert entry["logprob"] <= 0
        assert bytes(entry["bytes"]).decode() == entry["token"]
        best = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert entry["token"] == entry["top_logprobs"][0]["token"], "greedy takes the best"


def test_no_logprobs_unless_asked(daemon: Daemon) -> None:
    assert "logprobs" not in daemon.post("/api/chat", chat())[1]
    entries = daemon.post("/api/chat", chat(logprobs=True))[1]["logprobs"]
    assert all("top_logprobs" not in entry for entry in entries)


SAID = '{"a": 1, "tags": ["x"]}'
TAGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
SAID_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "tags": TAGS}}
WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
    },
}
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, CLOCK)]


@pytest.fixture(scope="module")
def thinker(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that thinks, and then says what the schema allows."""
    gguf = write_scripted(
        tmp_path_factory.mktemp("thinker") / "m.gguf",
        f"<think>{THOUGHT}</think>{SAID}",  # a newline would be what follows that of the prompt
        template=TEMPLATE,
        specials=(*THINK, *CALL, RESULT),
    )
    import_gguf(store_root, "json-thinker", gguf, params={"temperature": 0})
    return "json-thinker"


def ask(model: str, **fields: Any) -> Json:
    messages = [{"role": "user", "content": "go"}]
    options = {"temperature": 0, "num_predict": 200}
    return {
        "model": model,
        "messages": messages,
        "stream": False,
        "options": options,
        **fields,
    }


def test_an_answer_follows_its_schema_after_a_thought(daemon: Daemon, thinker: str) -> None:
    body = ask(thinker, format=SAID_SCHEMA, think=True)
    answer = daemon.post("/api/chat", body)[1]
    assert answer["message"]["thinking"] == THOUGHT
    assert json.loads(answer["message"]["content"]) == json.loads(SAID)
    assert answer["done_reason"] == "stop"


def test_an_answer_follows_its_schema_without_a_thought(daemon: Daemon, thinker: str) -> None:
    """The model would rather think, which the request forbids."""
    schema = {"type": "object", "properties": {"b": {"const": 2}}, "required": ["b"]}
    answer = daemon.post("/api/chat", ask(thinker, format=schema, think=False))[1]
    assert "thinking" not in answer["message"]
    assert json.loads(answer["message"]["content"]) == {"b": 2}


@pytest.mark.parametrize("model", [THINKER, CALLER])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "clock"}),
        ({"type": "function", "function": {"name": "clock"}}, {"clock"}),
        ({"type": "function", "function": {"name": "get_weather"}}, {"get_weather"}),
    ],
    ids=["required", "clock", "get_weather"],
)
def test_a_forced_call_is_a_call(
    daemon: Daemon, model: str, choice: object, names: set[str]
) -> None:
    """Also by a model that would rather say something."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "go"}],
        "tools": TOOLS,
        "tool_choice": choice,
        "temperature": 0,
        "max_tokens": 300,
    }
    status, answer = daemon.post("/v1/chat/completions", body)
    assert status == 200, answer
    (made,) = answer["choices"]
    calls = made["message"]["tool_calls"]
    assert calls, made
    for call in calls:  # a model without sense goes on with calls up to the limit
        assert call["function"]["name"] in names
        arguments = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] == "clock" or arguments["city"] in ("Paris", "Rome")


def test_no_call_is_forced_on_a_model_whose_template_knows_no_tools(daemon: Daemon) -> None:
    hi = [{"role": "user", "content": "go"}]
    body = {"model": TALKER, "messages": hi, "tools": TOOLS, "tool_choice": "required"}
    status, answer = daemon.post("/v1/chat/completions", body)
    assert status == 400
    assert "does not support tools" in answer["error"]["message"]


def test_what_a_grammar_cannot_follow_is_logged(daemon: Daemon, thinker: str) -> None:
    schema = {**SAID_SCHEMA, "minProperties": 2, "if": {"required": ["a"]}, "then": {"minimum": 3}}
    assert daemon.post("/api/chat", ask(thinker, format=schema, think=True))[0] == 200
    assert "passed over: if, then, uniqueItems, minProperties" in daemon.log.read_text()
