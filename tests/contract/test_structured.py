"""format and logprobs on the real model (CONTRACT 1.2 and 1.8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from daemons import Daemon, Json

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
