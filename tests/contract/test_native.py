"""What clients see on /api/generate and /api/chat (CONTRACT 0, 1.2, 1.3, 1.4, 1.5, 1.6 and 1.7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from daemons import Daemon, Json

pytestmark = pytest.mark.contract

SMOL = "smollm2:135m"
GREEDY = {"temperature": 0, "num_predict": 12}
FULL = "registry.ollama.ai/library/smollm2:135m"
RAW = "raw mode does not support template, system, or context"
FLOAT = 'option "temperature" must be of type float32'
INTEGER = 'option "num_ctx" must be of type integer'
STRINGS = 'option "stop" must be of an array of strings'
CHOICES = '"high", "medium", "low", "max", true, or false'
THINK_VALUE = f'invalid think value: "deep" (must be {CHOICES})'
THINK_TYPE = f"think must be a boolean or string ({CHOICES})"
XML = 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'
ASK = [{"role": "user", "content": "Why is the sky blue?"}]


def chat(**fields: Any) -> Json:
    return {"model": SMOL, "messages": ASK, "options": GREEDY, **fields}


def generate(**fields: Any) -> Json:
    return {"model": SMOL, "prompt": "Why is the sky blue?", "options": GREEDY, **fields}


def test_a_stream_is_ndjson_with_one_final_line_of_metrics(daemon: Daemon) -> None:
    *parts, last = daemon.lines("/api/chat", chat())
    assert len(parts) > 3
    for part in parts:
        assert part["model"] == SMOL
        assert part["done"] is False
        assert part["message"]["role"] == "assistant"
        assert part["created_at"].endswith("Z")
    assert last["done"] is True
    assert last["done_reason"] == "length"
    assert last["message"] == {"role": "assistant", "content": ""}
    durations = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    assert all(last[key] > 0 for key in durations)
    assert last["eval_count"] == 12
    assert last["prompt_eval_count"] > 10


def test_the_fold_is_the_stream_joined(daemon: Daemon) -> None:
    streamed = "".join(p["message"]["content"] for p in daemon.lines("/api/chat", chat()))
    status, whole = daemon.post("/api/chat", chat(stream=False))
    assert status == 200
    assert whole["message"] == {"role": "assistant", "content": streamed}
    assert whole["done"] is True
    assert whole["eval_count"] == 12


def test_the_answer_makes_sense(daemon: Daemon) -> None:
    body = chat(stream=False, options={"temperature": 0, "num_predict": 60})
    content = daemon.post("/api/chat", body)[1]["message"]["content"].lower()
    assert any(word in content for word in ("scatter", "light", "atmosphere"))


def test_generate_gives_a_context_that_continues_the_talk(daemon: Daemon) -> None:
    first = daemon.post("/api/generate", generate(stream=False))[1]
    assert first["response"]
    assert len(first["context"]) == first["prompt_eval_count"] + first["eval_count"]
    more = daemon.post("/api/generate", generate(stream=False, context=first["context"]))[1]
    assert more["prompt_eval_count"] > first["prompt_eval_count"]


def test_raw_mode_takes_the_prompt_as_it_is(daemon: Daemon) -> None:
    raw = daemon.post("/api/generate", generate(stream=False, raw=True))[1]
    templated = daemon.post("/api/generate", generate(stream=False))[1]
    assert raw["prompt_eval_count"] < templated["prompt_eval_count"]
    assert "context" not in raw


def test_a_system_message_reaches_the_template(daemon: Daemon) -> None:
    body = generate(system="Speak like a pirate.", _debug_render_only=True)
    rendered = daemon.post("/api/generate", body)[1]["_debug_info"]["rendered_template"]
    assert "<|im_start|>system\nSpeak like a pirate.<|im_end|>" in rendered
    assert rendered.endswith("<|im_start|>assistant\n")


def test_an_empty_prompt_loads_and_keep_alive_0_unloads(daemon: Daemon) -> None:
    status, loaded = daemon.post("/api/generate", {"model": "tiny"})
    assert (status, loaded["done_reason"], loaded["response"]) == (200, "load", "")
    assert "tiny:latest" in names(daemon, "/api/ps")
    status, gone = daemon.post("/api/chat", {"model": "tiny", "keep_alive": 0})
    assert (status, gone["done_reason"]) == (200, "unload")
    assert gone["message"] == {"role": "assistant", "content": ""}
    assert "tiny:latest" not in names(daemon, "/api/ps")


def test_ps_shows_size_and_expiry(daemon: Daemon) -> None:
    daemon.post("/api/generate", {"model": SMOL, "keep_alive": "1h"})
    (row,) = [m for m in daemon.get("/api/ps")[1]["models"] if m["name"] == SMOL]
    assert row["size"] > 98_000_000
    assert row["context_length"] == 8192
    assert row["details"]["family"] == "llama"
    left = datetime.fromisoformat(row["expires_at"]) - datetime.now().astimezone()
    assert 3500 < left.total_seconds() <= 3600


def test_keep_alive_minus_one_is_forever(daemon: Daemon) -> None:
    daemon.post("/api/generate", {"model": "tiny", "keep_alive": -1})
    (row,) = [m for m in daemon.get("/api/ps")[1]["models"] if m["name"] == "tiny:latest"]
    assert int(row["expires_at"][:4]) > 2100
    daemon.post("/api/generate", {"model": "tiny", "keep_alive": 0})


def test_keys_match_in_any_case_and_what_follows_the_json_is_ignored(daemon: Daemon) -> None:
    body = b'{"MODEL":"smollm2:135m","Prompt":"Hi","STREAM":false,"options":{"num_predict":2}} x'
    status, answer = daemon.post("/api/generate", body)
    assert status == 200
    assert answer["eval_count"] == 2


def test_stop_strings_are_cut_off(daemon: Daemon) -> None:
    options = {"temperature": 0, "num_predict": 60, "stop": [" of", "."]}
    answer = daemon.post("/api/generate", generate(stream=False, options=options))[1]
    assert " of" not in answer["response"]
    assert "." not in answer["response"]
    assert answer["done_reason"] == "stop"


def test_a_prompt_beyond_the_context_is_cut_or_refused(daemon: Daemon) -> None:
    long = "word " * 2000
    options = {"num_ctx": 256, "num_predict": 4}
    status, cut = daemon.post("/api/generate", generate(prompt=long, options=options, stream=False))
    assert status == 200
    assert cut["prompt_eval_count"] < 256
    status, refused = daemon.post(
        "/api/generate", generate(prompt=long, options=options, truncate=False)
    )
    assert status == 400
    assert "context length" in refused["error"]


REFUSED: list[tuple[str, Json, int, str]] = [
    ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
    ("/api/chat", {"messages": ASK}, 400, "model is required"),
    ("/api/generate", {"model": "nobody", "prompt": "x"}, 404, "model 'nobody' not found"),
    ("/api/chat", {"model": "nobody", "messages": ASK}, 404, "model 'nobody' not found"),
    ("/api/chat", {"model": "../../etc/passwd", "messages": ASK}, 400, "invalid model name"),
    ("/api/chat", chat(top_logprobs=21), 400, "top_logprobs must be between 0 and 20"),
    ("/api/chat", chat(think=True), 400, f'"{SMOL}" does not support thinking'),
    ("/api/chat", chat(tools=[{"type": "function"}]), 400, f"{FULL} does not support tools"),
    ("/api/generate", generate(suffix="x"), 400, f"{FULL} does not support insert"),
    ("/api/generate", generate(raw=True, system="x"), 400, RAW),
    ("/api/chat", chat(options={"temperature": "hot"}), 500, FLOAT),
    ("/api/chat", chat(options={"num_ctx": True}), 500, INTEGER),
    ("/api/chat", chat(options={"stop": "x"}), 500, 'option "stop" must be of type array'),
    ("/api/chat", chat(options={"stop": [1]}), 500, STRINGS),
    ("/api/chat", chat(keep_alive="5"), 400, 'time: missing unit in duration "5"'),
    ("/api/chat", chat(keep_alive=""), 400, 'time: invalid duration ""'),
    ("/api/chat", chat(keep_alive=True), 400, "Unsupported type: 'bool'"),
    ("/api/chat", chat(think="deep"), 400, THINK_VALUE),
    ("/api/chat", chat(think=3), 400, THINK_TYPE),
    ("/api/chat", chat(format="xml"), 500, XML),
    ("/api/generate", generate(context=[10**6]), 400, "context holds tokens that this model"),
]


@pytest.mark.parametrize(("path", "body", "status", "text"), REFUSED)
def test_a_bad_request_gets_the_contract_s_status_and_text(
    daemon: Daemon, path: str, body: Json, status: int, text: str
) -> None:
    assert daemon.post(path, body)[0] == status
    assert daemon.post(path, body)[1]["error"].startswith(text)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"model": 1}', b'{"model":"a","messages":"x"}', b"\xff\xfe", b"[" * 100_000],
)
def test_what_is_no_request_is_refused(daemon: Daemon, body: bytes) -> None:
    status, answer = daemon.post("/api/chat", body)
    assert status == 400
    assert answer["error"]


def test_an_empty_body_is_refused(daemon: Daemon) -> None:
    assert daemon.post("/api/chat", b"") == (400, {"error": "missing request body"})


def test_unknown_options_are_left_out(daemon: Daemon) -> None:
    options = {"num_predict": 2, "mirostat": 1, "whatever": [], "top_k": None}
    assert daemon.post("/api/chat", chat(options=options, stream=False))[0] == 200


def names(daemon: Daemon, path: str) -> list[str]:
    return [model["name"] for model in daemon.get(path)[1]["models"]]
