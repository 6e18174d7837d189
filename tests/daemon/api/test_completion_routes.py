"""/api/generate and /api/chat without weights (CONTRACT 1.2, 1.3, 1.4 and 1.8)."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec
import pytest
from fake_runner import DONE, HANG, REPORT, FakeRunner
from front import Front, normalise
from outrider.daemon.chat.conversation import Conversation, Message, RawPrompt, ToolCall
from outrider.daemon.errors import (
    BadRequest,
    Busy,
    InvalidFormat,
    InvalidSchema,
    LoadFailed,
    OutriderError,
    RunnerDied,
    RunnerError,
)
from outrider.daemon.protocol import Alternative, Delta, Done, Logprob
from outrider.models.errors import DamagedModel
from outrider.quant.gguf import GGUFError

pytestmark = pytest.mark.unit

ASK = [{"role": "User", "content": "hello"}]
CHAT = {"model": "chat", "messages": ASK}
GENERATE = {"model": "chat", "prompt": "hello"}
FULL = "registry.ollama.ai/library/chat:latest"
INTERNAL = "internal error; the daemon's log has the details"
HM = Logprob(b"hm", -0.5, (Alternative(b"hm", -0.5), Alternative("ü".encode()[:1], -1.0)))
SCRIPT = [
    Delta(1, thinking="hm", logprobs=(HM,)),
    Delta(1),
    Delta(1, "Hi", "!", logprobs=(Logprob(b"!", -0.25), Logprob(b"Hi", -2.0))),
    Delta(1, ' "yöu"'),
    Delta(1, ".", done=msgspec.structs.replace(DONE, speculation_report=REPORT)),
]
METRICS = (
    '"total_duration":N,"load_duration":N,"prompt_eval_count":5,"prompt_eval_duration":1000,'
    '"eval_count":4,"eval_duration":2000,"speculation":{"drafter":"ngram","drafted":8,'
    '"accepted":6,"mean_length":2.67,"estimated_speedup":1.235}'
)
LOGPROB_HM = (
    '{"token":"hm","logprob":-0.5,"bytes":[104,109],"top_logprobs":'
    '[{"token":"hm","logprob":-0.5,"bytes":[104,109]},{"token":"�","logprob":-1.0,"bytes":[195]}]}'
)
LOGPROBS = (
    '{"token":"!","logprob":-0.25,"bytes":[33]},{"token":"Hi","logprob":-2.0,"bytes":[72,105]}'
)


async def text_of(front: Front, path: str, body: object) -> str:
    """A whole answer as it travels, without its times."""
    front.runners.scripts.append(SCRIPT)
    status, text = await front.send("POST", path, body)
    assert status == 200
    return normalise(text)


async def test_the_stream_of_chat_byte_by_byte(front: Front) -> None:
    start = '{"model":"chat","created_at":"T","message":{"role":"assistant","content":'
    assert (await text_of(front, "/api/chat", CHAT)).splitlines() == [
        start + f'"","thinking":"hm"}},"done":false,"logprobs":[{LOGPROB_HM}]}}',
        start + f'"Hi","thinking":"!"}},"done":false,"logprobs":[{LOGPROBS}]}}',
        start + r'" \"yöu\""},"done":false}',
        start + '"."},"done":false}',
        start + '""},"done":true,"done_reason":"stop",' + METRICS + "}",
    ]


async def test_the_stream_of_generate_byte_by_byte(front: Front) -> None:
    start = '{"model":"chat","created_at":"T","response":'
    assert (await text_of(front, "/api/generate", GENERATE)).splitlines() == [
        start + f'"","thinking":"hm","done":false,"logprobs":[{LOGPROB_HM}]}}',
        start + f'"Hi","thinking":"!","done":false,"logprobs":[{LOGPROBS}]}}',
        start + r'" \"yöu\"","done":false}',
        start + '".","done":false}',
        start + '"","done":true,"done_reason":"stop","context":[1,2,3],' + METRICS + "}",
    ]


async def test_the_fold_of_chat_byte_by_byte(front: Front) -> None:
    expected = (
        '{"model":"chat","created_at":"T","message":{"role":"assistant",'
        r'"content":"Hi \"yöu\".","thinking":"hm!"},"done":true,"done_reason":"stop",'
        f'{METRICS},"logprobs":[{LOGPROB_HM},{LOGPROBS}]}}'
    )
    assert await text_of(front, "/api/chat", {**CHAT, "stream": False}) == expected


async def test_the_fold_of_generate_byte_by_byte(front: Front) -> None:
    expected = (
        r'{"model":"chat","created_at":"T","response":"Hi \"yöu\".","done":true,'
        f'"done_reason":"stop","context":[1,2,3],{METRICS},'
        f'"logprobs":[{LOGPROB_HM},{LOGPROBS}],"thinking":"hm!"}}'
    )
    assert await text_of(front, "/api/generate", {**GENERATE, "stream": False}) == expected


async def test_a_stream_is_ndjson(front: Front) -> None:
    front.runners.scripts.append(SCRIPT)
    async with front.client.post("/api/chat", json=CHAT) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert (await answer.read()).endswith(b"}\n")


@pytest.mark.parametrize("reason", ["stop", "length", "cancel"])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_reason_of_the_end_and_all_metrics_of_an_answer_without_tokens(
    front: Front, reason: str, stream: bool
) -> None:
    front.runners.scripts.append([Delta(1, done=Done(reason))])
    (last,) = await front.lines("/api/chat", {**CHAT, "stream": stream})
    assert last["done_reason"] == reason
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["total_duration"] >= last["load_duration"] > 0
    counts = ("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")
    assert [last[name] for name in counts] == [0, 0, 0, 0]


async def test_raw_shows_no_context(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    (last,) = await front.lines("/api/generate", {**GENERATE, "raw": True})
    assert "context" not in last
    assert front.runners.submits[0].prompt == RawPrompt("hello")


async def test_an_answer_is_counted(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    await front.lines("/api/chat", CHAT)
    metrics = (await front.send("GET", "/metrics"))[1]
    assert 'outrider_requests_total{model="chat:latest",reason="stop"} 1.0' in metrics


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_without_a_prompt_the_model_is_loaded(front: Front, path: str) -> None:
    status, loaded = await front.post(path, {"model": "Chat", "keep_alive": "1h"})
    empty: dict[str, Any] = (
        {"response": ""}
        if path == "/api/generate"
        else {"message": {"role": "assistant", "content": ""}}
    )
    assert loaded.pop("created_at").endswith("Z")
    assert (status, loaded) == (
        200,
        {"model": "Chat", **empty, "done": True, "done_reason": "load"},
    )
    assert [load.num_ctx for load in front.runners.loads] == [8192]
    (model,) = front.pool.loaded_models
    assert model.keep_alive_s == 3600
    status, unloaded = await front.post(path, {"model": "chat", "keep_alive": 0})
    assert unloaded.pop("created_at").endswith("Z")
    assert (status, unloaded) == (
        200,
        {"model": "chat", **empty, "done": True, "done_reason": "unload"},
    )
    await asyncio.sleep(0)
    assert front.pool.loaded_models == []
    assert front.runners.submits == []


async def test_keep_alive_0_with_a_prompt_unloads_after_the_answer(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    await front.lines("/api/chat", {**CHAT, "keep_alive": 0})
    await asyncio.sleep(0)
    assert front.pool.loaded_models == []


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_render_only_shows_the_prompt(front: Front, path: str) -> None:
    front.runners.scripts.append([Delta(1, "<s>hello", done=Done("render"))])
    body = (GENERATE if path == "/api/generate" else CHAT) | {"_debug_render_only": True}
    status, rendered = await front.post(path, body)
    assert status == 200
    assert rendered["_debug_info"] == {"rendered_template": "<s>hello", "image_count": 0}
    assert rendered["done"] is False
    assert "done_reason" not in rendered
    assert front.runners.submits[0].render_only
    assert "outrider_requests_total{" not in (await front.send("GET", "/metrics"))[1]


async def test_everything_of_a_request_reaches_the_runner(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    options = {"temperature": 0.5, "num_keep": 9, "stop": ["x"], "draft_num_predict": 3}
    body = {
        **CHAT,
        "model": "full",
        "options": {**options, "draft_fixed": 2},
        "format": "json",
        "logprobs": True,
        "top_logprobs": 4,
        "truncate": False,
        "shift": False,
    }
    await front.lines("/api/chat", body)
    (submit,) = front.runners.submits
    assert submit.prompt == Conversation((Message("system", "be kind"), Message("user", "hello")))
    assert (submit.sampling.temperature, submit.schema) == (0.5, '{"type":"object"}')
    assert (submit.num_logprobs, submit.draft_limit, submit.draft_fixed) == (4, 3, 2)
    limits = submit.limits
    assert (limits.num_predict, limits.num_keep, limits.stop) == (7, 9, ("x",))
    assert not limits.truncate
    assert not limits.shift


async def test_a_schema_and_a_context_reach_the_runner(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    body = {**GENERATE, "context": [1, 2], "format": {"type": "array"}, "system": "be brief"}
    await front.lines("/api/generate", body)
    (submit,) = front.runners.submits
    assert submit.context == (1, 2)
    assert json.loads(submit.schema) == {"type": "array"}
    assert submit.num_logprobs is None
    assert submit.prompt == Conversation((Message("system", "be brief"), Message("user", "hello")))


async def test_the_system_of_the_messages_goes_before_that_of_the_model(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    call = {"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}
    messages = [
        {"role": "system", "content": "mine"},
        {"role": "assistant", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_name": "f", "tool_call_id": "c1"},
    ]
    await front.lines("/api/chat", {"model": "full", "messages": messages})
    assert front.runners.submits[0].prompt == Conversation(
        (
            Message("system", "mine"),
            Message("assistant", "", "hm", (ToolCall("f", {"a": 1}, "c1"),)),
            Message("tool", "2", tool_name="f", tool_call_id="c1"),
        )
    )


@pytest.mark.parametrize(
    ("model", "asked", "think"),
    [
        ("thinker", None, True),
        ("thinker", False, False),
        ("thinker", "high", "high"),
        ("chat", None, None),
        ("chat", False, False),
    ],
)
async def test_a_model_that_can_think_does_so_unless_asked_otherwise(
    front: Front, model: str, asked: object, think: object
) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    await front.lines("/api/chat", {**CHAT, "model": model, "think": asked})
    prompt = front.runners.submits[0].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.think == think


RAW = "raw mode does not support template, system, or context"
REFUSED: list[tuple[str, dict[str, object], int, str]] = [
    ("generate", {"model": ""}, 404, "model '' not found"),
    ("generate", {"model": "nobody"}, 404, "model 'nobody' not found"),
    ("generate", {"model": "a//b"}, 400, "invalid model name"),
    ("generate", {"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
    ("generate", {"raw": True, "system": "x"}, 400, RAW),
    ("generate", {"raw": True, "context": [1]}, 400, RAW),
    ("generate", {"think": True}, 400, '"chat" does not support thinking'),
    ("generate", {"model": "Vectors"}, 400, '"Vectors" does not support generate'),
    ("generate", {"suffix": "x"}, 400, f"{FULL} does not support insert"),
    ("generate", {"images": ["eA=="]}, 501, "images are not supported yet; leave them out"),
    ("generate", {"format": "xml"}, 500,
     'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
    ("chat", {"model": ""}, 400, "model is required"),
    ("chat", {"model": "nobody"}, 404, "model 'nobody' not found"),
    ("chat", {"top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20"),
    ("chat", {"think": "low"}, 400, '"chat" does not support thinking'),
    ("chat", {"model": "vectors"}, 400, '"vectors" does not support chat'),
    ("chat", {"tools": [{}]}, 400, f"{FULL} does not support tools"),
    ("chat", {"messages": [{"role": "user", "images": ["eA=="]}]}, 501,
     "images are not supported yet; leave them out"),
    ("chat", {"options": {"top_k": "x"}}, 500, 'option "top_k" must be of type integer'),
    ("chat", {"keep_alive": "5"}, 400, 'time: missing unit in duration "5"'),
    ("chat", {"messages": 1}, 400, "json: messages: Input should be a valid list"),
]  # fmt: skip


@pytest.mark.parametrize(("route", "change", "status", "text"), REFUSED)
async def test_a_bad_request_is_refused_before_anything_is_loaded(
    front: Front, route: str, change: dict[str, object], status: int, text: str
) -> None:
    body = (GENERATE if route == "generate" else CHAT) | change
    for stream in (True, False):
        answer = await front.post(f"/api/{route}", body | {"stream": stream})
        assert answer == (status, {"error": text})
    assert front.runners.loads == []


FAILURES: list[tuple[Exception, int, str]] = [
    (BadRequest("the prompt is empty"), 400, "the prompt is empty"),
    (InvalidFormat("invalid format: x"), 500, "invalid format: x"),
    (InvalidSchema("invalid format: y"), 400, "invalid format: y"),
    (RunnerError("odd"), 500, "odd"),
    (RunnerDied("model runner has unexpectedly stopped"), 500,
     "model runner has unexpectedly stopped"),
    (OutriderError("plain"), 500, "plain"),
    (DamagedModel("a blob is missing"), 500, "a blob is missing"),
    (GGUFError("truncated"), 500, "truncated"),
    (ZeroDivisionError("a secret"), 500, INTERNAL),
    (ConnectionResetError("a secret"), 500, INTERNAL),
    (TimeoutError("a secret"), 500, INTERNAL),
    (StopAsyncIteration("a secret"), 500, INTERNAL),
]  # fmt: skip
FAILURE_IDS = [type(error).__name__ for error, _, _ in FAILURES]


@pytest.mark.parametrize(("error", "status", "text"), FAILURES, ids=FAILURE_IDS)
async def test_a_failure_before_the_first_line_has_its_status(
    front: Front, error: Exception, status: int, text: str
) -> None:
    for stream in (True, False):
        front.runners.scripts.append([error])
        answer = await front.post("/api/chat", {**CHAT, "stream": stream})
        assert answer == (status, {"error": text})


@pytest.mark.parametrize(("error", "status", "text"), FAILURES, ids=FAILURE_IDS)
async def test_a_failure_after_the_first_line_is_the_last_line(
    front: Front, error: Exception, status: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    front.runners.scripts.append([Delta(1, "Hi"), error])
    with caplog.at_level(logging.INFO):
        first, last = await front.lines("/api/chat", CHAT)
    assert first["message"]["content"] == "Hi"
    assert last == {"error": text}
    ours = [record for record in caplog.records if record.name.startswith("outrider")]
    logged = [record for record in ours if record.levelno >= logging.WARNING]
    assert len(logged) == 1
    assert bool(logged[0].exc_info) is (text == INTERNAL)
    assert ours[-1].getMessage().startswith("POST /api/chat 200 ")
    front.runners.scripts.append(SCRIPT)
    assert (await front.post("/api/chat", {**CHAT, "stream": False}))[0] == 200


async def test_a_failure_of_a_whole_answer_has_its_status(front: Front) -> None:
    front.runners.scripts.append([Delta(1, "Hi"), RunnerDied("gone")])
    assert await front.post("/api/chat", {**CHAT, "stream": False}) == (500, {"error": "gone"})


@pytest.mark.parametrize(
    ("error", "status"), [(LoadFailed("no memory"), 500), (Busy("server busy"), 503)]
)
async def test_a_failed_load_has_its_status(front: Front, error: Exception, status: int) -> None:
    front.runners.load_error = error
    for body in (CHAT, {"model": "chat"}):
        assert await front.post("/api/chat", body) == (status, {"error": str(error)})


async def test_a_client_that_leaves_cancels_its_request(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    front.runners.scripts.append([Delta(1, "Hi"), HANG])
    with caplog.at_level(logging.INFO):
        async with front.client.post("/api/chat", json=CHAT) as answer:
            await answer.content.readline()
            answer.close()
        await asyncio.wait_for(front.runners.cancelled.wait(), 5)
        await asyncio.sleep(0)
    assert all(record.levelno == logging.INFO for record in caplog.records)
    (model,) = front.pool.loaded_models
    assert model.users == 0
    assert isinstance(model.runner, FakeRunner)
    assert model.runner.is_alive


async def test_a_client_that_leaves_before_the_first_line_cancels_its_request(
    front: Front,
) -> None:
    front.runners.scripts.append([HANG])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(front.send("POST", "/api/chat", {**CHAT, "stream": False}), 0.05)
    await asyncio.wait_for(front.runners.cancelled.wait(), 5)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/chat", {**CHAT, "stream": False}, 200),
        ("POST", "/api/chat", {"model": "chat", "keep_alive": 0}, 200),
        ("POST", "/api/generate", {**GENERATE, "stream": False}, 200),
        ("POST", "/api/chat", {"model": "nope"}, 404),
        ("POST", "/v1/chat/completions", {"model": "nope", "messages": ASK}, 404),
        ("POST", "/v1/messages", {"model": "nope"}, 400),
        ("GET", "/api/version", None, 200),
        ("GET", "/api/tags", None, 200),
        ("POST", "/api/show", {"model": "chat"}, 200),
    ],
)
async def test_single_objects_are_compact_json(
    front: Front, method: str, path: str, body: object, status: int
) -> None:
    if status == 200:
        front.runners.scripts.append([Delta(1, "Hi", done=DONE)])
    got, text = await front.send(method, path, body)
    assert got == status
    compact = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    assert text == compact


async def test_a_template_that_cannot_be_read_says_why(front: Front) -> None:
    body = {**GENERATE, "template": "{{ .Prompt"}
    text = "the template cannot be read: template:1:1: unclosed action"
    assert await front.post("/api/generate", body) == (500, {"error": text})
