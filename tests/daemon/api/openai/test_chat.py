"""/v1/chat/completions without weights (CONTRACT 2.2)."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from fake_runner import DONE, HANG, Script
from front import Front
from outrider.daemon.chat.conversation import Conversation, Message, Tool, ToolCall
from outrider.daemon.errors import BadRequest, Busy, InvalidFormat, RunnerDied
from outrider.daemon.protocol import Alternative, Delta, Logprob, Sampling, Started, Submit
from outrider.daemon.runners.model_info import ModelInfo

pytestmark = pytest.mark.unit

PATH = "/v1/chat/completions"
ASK = [{"role": "user", "content": "hello"}]
STARTED = Delta(1, started=Started(5))
PLAIN: Script = [STARTED, Delta(1, "Hi"), Delta(1, ' "yöu"'), Delta(1, done=DONE)]
HI = Logprob(b"Hi", -0.5, (Alternative(b"Hi", -0.5), Alternative("ü".encode()[:1], -1.0)))
CUT = msgspec.structs.replace(DONE, reason="length")
WEATHER, TIME = ToolCall("weather", {"city": "Köln", "days": 2}), ToolCall("time", {})
CALLS: Script = [
    STARTED,
    Delta(1, thinking="hm"),
    Delta(1, "So", "!", (WEATHER,)),
    Delta(1, tool_calls=(TIME,)),
    Delta(1, done=DONE),
]
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("weather", "time")]
USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that can do everything."""
    monkeypatch.setattr(ModelInfo, "can", lambda _self, _capability: True)


async def ask(front: Front, script: Script = PLAIN, **fields: object) -> Any:
    front.runners.scripts.append(script)
    status, answer = await front.post(PATH, {"model": "chat", "messages": ASK, **fields})
    assert status == 200, answer
    return answer


async def stream(front: Front, script: Script = PLAIN, **fields: object) -> list[Any]:
    front.runners.scripts.append(script)
    body = {"model": "chat", "messages": ASK, "stream": True, **fields}
    return await front.sse(PATH, body)


async def submitted(front: Front, **fields: object) -> Submit:
    await ask(front, **fields)
    return front.runners.submits[-1]


async def refusal(front: Front, **fields: object) -> tuple[int, str]:
    status, answer = await front.post(PATH, {"model": "chat", "messages": ASK, **fields})
    return status, answer["error"]["message"]


def deltas(chunks: list[Any]) -> list[tuple[dict[str, object], str | None]]:
    """Delta and finish reason of the chunks with a choice."""
    choices = [chunk["choices"][0] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]]
    return [(choice["delta"], choice["finish_reason"]) for choice in choices]


def spoken(call: ToolCall, index: int, call_id: object) -> dict[str, object]:
    arguments = json.dumps(call.arguments, separators=(",", ":"), ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call_id, "index": index, "type": "function", "function": function}


async def test_an_answer_byte_by_byte(front: Front) -> None:
    front.runners.scripts.append(PLAIN)
    status, text = await front.send("POST", PATH, {"model": "Chat", "messages": ASK})
    assert status == 200
    text = re.sub(r'"chatcmpl-\d+"', '"ID"', re.sub(r'"created":\d+', '"created":T', text))
    assert text == (
        '{"id":"ID","object":"chat.completion","created":T,"model":"Chat",'
        '"system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant",'
        '"content":"Hi \\"yöu\\""},"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}}'
    )


async def test_a_stream_byte_by_byte(front: Front) -> None:
    front.runners.scripts.append(PLAIN)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    _, text = await front.send("POST", PATH, {"model": "chat", "messages": ASK, **options})
    ids = set(re.findall(r'"id":"chatcmpl-\d+"', text))
    created = set(re.findall(r'"created":\d+', text))
    assert (len(ids), len(created)) == (1, 1)
    head = f'data: {{{ids.pop()},"object":"chat.completion.chunk",{created.pop()},"model":"chat",'
    head += '"system_fingerprint":"fp_ollama","choices":['
    choice = head + '{"index":0,"delta":'
    assert text.split("\n\n") == [
        choice + '{"role":"assistant","content":"Hi"},"finish_reason":null}]}',
        choice + '{"content":" \\"yöu\\""},"finish_reason":null}]}',
        choice + '{},"finish_reason":"stop"}]}',
        head + '],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}}',
        "data: [DONE]",
        "",
    ]


async def test_thinking_and_calls(front: Front, able: None) -> None:
    answer = await ask(front, CALLS, tools=TOOLS)
    (choice,) = answer["choices"]
    ids = [call["id"] for call in choice["message"]["tool_calls"]]
    assert all(re.fullmatch(r"call_[a-z0-9]{8}", call_id) for call_id in ids)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "So",
        "reasoning": "hm!",
        "tool_calls": [spoken(WEATHER, 0, ids[0]), spoken(TIME, 1, ids[1])],
    }


async def test_thinking_and_calls_in_a_stream(front: Front, able: None) -> None:
    chunks = await stream(front, CALLS, tools=TOOLS)
    assert chunks[-1] == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks[:-1])
    said = deltas(chunks)
    first, second = (delta["tool_calls"][0]["id"] for delta, _ in said[2:4])  # type: ignore[index]
    assert said == [
        ({"role": "assistant", "content": "", "reasoning": "hm"}, None),
        ({"reasoning": "!"}, None),
        ({"content": "So", "tool_calls": [spoken(WEATHER, 0, first)]}, None),
        ({"content": "", "tool_calls": [spoken(TIME, 1, second)]}, None),
        ({}, "tool_calls"),
    ]


async def test_without_parallel_calls_the_first_is_shown(front: Front, able: None) -> None:
    fields = {"tools": TOOLS, "parallel_tool_calls": False}
    (choice,) = (await ask(front, CALLS, **fields))["choices"]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]
    said = deltas(await stream(front, CALLS, **fields))
    assert len([delta for delta, _ in said if "tool_calls" in delta]) == 1
    assert said[-1] == ({}, "tool_calls")
    assert ({"content": ""}, None) not in said


async def test_an_answer_that_was_cut_has_reason_length(front: Front, able: None) -> None:
    cut: Script = [STARTED, Delta(1, tool_calls=(TIME,)), Delta(1, done=CUT)]
    assert (await ask(front, cut))["choices"][0]["finish_reason"] == "length"
    assert deltas(await stream(front, cut))[-1] == ({}, "length")


async def test_a_stream_without_output_has_a_first_chunk(front: Front) -> None:
    assert deltas(await stream(front, [STARTED, Delta(1, done=DONE)])) == [
        ({"role": "assistant", "content": ""}, None),
        ({}, "stop"),
    ]


async def test_logprobs(front: Front) -> None:
    entry = {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
            {"token": "�", "logprob": -1.0, "bytes": [195]},
        ],
    }
    script: Script = [Delta(1, "Hi", logprobs=(HI,)), Delta(1, logprobs=(HI,)), Delta(1, done=DONE)]
    answer = await ask(front, script, logprobs=True, top_logprobs=2)
    assert front.runners.submits[-1].num_logprobs == 2
    assert answer["choices"][0]["logprobs"] == {"content": [entry, entry]}
    chunks = await stream(front, script, logprobs=True)
    assert front.runners.submits[-1].num_logprobs == 0
    assert [chunk["choices"][0].get("logprobs") for chunk in chunks[:-1]] == [
        {"content": [entry]},
        {"content": [entry]},
        None,
    ]
    assert (await submitted(front, top_logprobs=2)).num_logprobs is None


async def test_several_choices(front: Front) -> None:
    scripts: list[Script] = [
        [STARTED, Delta(1, "one"), Delta(1, done=DONE)],
        [STARTED, Delta(1, "two"), Delta(1, done=CUT)],
    ]
    front.runners.scripts.append(scripts[0])
    answer = await ask(front, scripts[1], n=2, seed=7)
    said = {choice["message"]["content"]: choice["finish_reason"] for choice in answer["choices"]}
    assert said == {"one": "stop", "two": "length"}
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    assert {submit.sampling.seed for submit in front.runners.submits} == {7, 8}


async def test_several_choices_in_a_stream(front: Front) -> None:
    front.runners.scripts.append([STARTED, Delta(1, "one"), Delta(1, done=DONE)])
    options = {"stream_options": {"include_usage": True}}
    chunks = await stream(front, [Delta(1, "two"), Delta(1, done=CUT)], n=2, **options)
    by_choice: dict[int, list[Any]] = {0: [], 1: []}
    for chunk in chunks[:-2]:
        by_choice[chunk["choices"][0]["index"]].append(chunk)
    texts = set()
    for own in by_choice.values():
        (first, _), (last, reason) = deltas(own)
        assert (first["role"], last) == ("assistant", {})
        texts.add((first["content"], reason))
    assert texts == {("one", "stop"), ("two", "length")}
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["completion_tokens"] == 8


async def test_defaults_override_the_options_of_the_model(front: Front) -> None:
    submit = await submitted(front, model="full")
    assert submit.sampling == Sampling(temperature=1.0, top_p=1.0)
    assert submit.limits.num_predict == 7
    assert submit.schema == ""
    assert submit.prompt == Conversation((Message("system", "be kind"), Message("user", "hello")))


async def test_limit_stop_format_and_effort(front: Front) -> None:
    schema = {"type": "array"}
    submit = await submitted(
        front,
        model="thinker",
        max_completion_tokens=3,
        stop=["a", 3],
        response_format={"type": "json_schema", "json_schema": {"schema": schema}},
        reasoning_effort="none",
    )
    assert (submit.limits.num_predict, submit.limits.stop) == (3, ("a",))
    assert json.loads(submit.schema) == schema
    assert isinstance(submit.prompt, Conversation)
    assert submit.prompt.think is False


async def test_parameters(front: Front) -> None:
    names = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "min_p")
    values = dict(zip(names, (0, 0.25, 0.5, -0.5, 0.125), strict=True))
    submit = await submitted(front, **values, top_k=5, seed=3, logit_bias={"9": -100, "2": 1.5})
    assert submit.sampling == Sampling(
        **values, top_k=5, seed=3, logit_bias=((9, -100.0), (2, 1.5))
    )


async def test_tools_and_the_choice_of_one(front: Front, able: None) -> None:
    choice = {"type": "function", "function": {"name": "time"}}
    prompt = (await submitted(front, tools=TOOLS, tool_choice=choice)).prompt
    assert isinstance(prompt, Conversation)
    assert prompt.tools == tuple(map(Tool, TOOLS))
    assert prompt.tool_choice == "time"


async def test_a_model_without_tools_may_be_told_to_call_none(front: Front) -> None:
    prompt = (await submitted(front, tools=TOOLS, tool_choice="none")).prompt
    assert isinstance(prompt, Conversation)
    assert prompt.tools == ()


async def test_the_prompt_alone(front: Front) -> None:
    rendered = msgspec.structs.replace(DONE, reason="render", prompt_tokens=9)
    answer = await ask(
        front, [Delta(1, "<hello>", done=rendered)], _debug_render_only=True, stream=True
    )
    assert answer["_debug_info"] == {"rendered_template": "<hello>", "image_count": 0}
    assert answer["choices"][0]["finish_reason"] is None


async def test_dropped_messages_are_told_in_a_header(front: Front) -> None:
    for is_stream in (False, True):
        script: Script = [Delta(1, started=Started(5, 3)), Delta(1, "Hi"), Delta(1, done=DONE)]
        front.runners.scripts.extend([script, PLAIN])
        body = {"model": "chat", "messages": ASK, "stream": is_stream}
        async with front.client.post(PATH, json=body) as answer:
            assert answer.headers["Outrider-Truncated"] == "3"
        async with front.client.post(PATH, json=body) as answer:
            assert "Outrider-Truncated" not in answer.headers


FULL = "registry.ollama.ai/library/chat:latest"


REFUSALS: list[tuple[dict[str, object], int, str]] = [
    ({"messages": []}, 400, "[] is too short - 'messages'"),
    ({"messages": None}, 400, "[] is too short - 'messages'"),
    ({"messages": [{"role": "user"}]}, 400, "invalid message content type: <nil>"),
    ({"model": ""}, 400, "model is required"),
    ({"model": "a//b/c/d"}, 400, "invalid model name"),
    ({"model": "nobody"}, 404, "model 'nobody' not found"),
    ({"model": "vectors"}, 400, '"vectors" does not support chat'),
    ({"reasoning_effort": "low"}, 400, '"chat" does not support thinking'),
    ({"reasoning_effort": "lots"}, 400, 'invalid reasoning value: "lots" (must be "minimal",'),
    ({"tools": TOOLS}, 400, f"{FULL} does not support tools"),
    ({"tools": [{}]}, 400, "tools.0: a tool needs a `function` object"),
    ({"tool_choice": "required"}, 400, "tool_choice demands a call, but the request has no"),
    ({"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
    ({"n": 0}, 400, "n must be between 1 and 8"),
    ({"n": 9}, 400, "n must be between 1 and 8"),
    ({"stop": 3}, 400, "invalid type for 'stop' field: number"),
    ({"logit_bias": {"a": 1}}, 400, 'logit_bias: "a" is not a token id'),
    ({"logit_bias": {"1" * 5000: 1}}, 400, 'logit_bias: "111111111" is not a token id'),
    ({"logit_bias": {"1": 101}}, 400, "logit_bias: a bias must be between -100 and 100"),
    ({"response_format": {"type": "xml"}}, 400, 'invalid response_format type: "xml"'),
    ({"response_format": {}}, 400, 'invalid response_format type: ""'),
    ({"response_format": {"type": "json_schema"}}, 400, "response_format needs `json_schema."),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        400,
        "response_format needs `json_schema.schema`",
    ),
    ({"temperature": "hot"}, 400, "json: temperature: "),
]


async def test_what_is_refused(front: Front) -> None:
    for fields, status, text in REFUSALS:
        got, message = await refusal(front, **fields)
        assert (got, message[: len(text)]) == (status, text)
    assert front.runners.submits == []


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("too long"), 400, "invalid_request_error"),
        (InvalidFormat("no schema"), 400, "invalid_request_error"),
        (Busy("busy"), 503, "api_error"),
    ],
)
async def test_an_error_before_the_first_chunk_has_its_status(
    front: Front, error: Exception, status: int, kind: str, is_stream: bool
) -> None:
    front.runners.scripts.append([STARTED, error])
    got, answer = await front.post(PATH, {"model": "chat", "messages": ASK, "stream": is_stream})
    body = {"message": str(error), "type": kind, "param": None, "code": None}
    assert (got, answer) == (status, {"error": body})


@pytest.mark.parametrize("n", [1, 2])
async def test_an_error_after_the_first_chunk_ends_the_stream(front: Front, n: int) -> None:
    front.runners.scripts.append([STARTED, Delta(1, "Hi"), RunnerDied("gone")])
    *chunks, last = await stream(front, [STARTED, Delta(1, "Hi"), HANG], n=n)
    if n == 1:
        front.runners.scripts.clear()
    assert ({"role": "assistant", "content": "Hi"}, None) in deltas(chunks)
    error = {"message": "gone", "type": "api_error", "param": None, "code": None}
    assert last == {"error": error}
