"""/v1/messages and count_tokens without weights (CONTRACT 3)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fake_runner import DONE, Script
from front import Front
from outrider.daemon.chat.conversation import Conversation, Message, Tool, ToolCall
from outrider.daemon.errors import BadRequest, Busy, LoadFailed, RunnerDied
from outrider.daemon.protocol import Delta, Done, Started, Submit
from outrider.daemon.runners.model_info import ModelInfo

pytestmark = pytest.mark.unit

URL = "/v1/messages?beta=true"
COUNT = "/v1/messages/count_tokens"
ASK = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
FULL = "registry.ollama.ai/library/chat:latest"
STARTED = Delta(1, started=Started(prompt_tokens=5))
ONE = ToolCall("weather", {"city": "Köln", "x": None}, "toolu_a")
TWO = ToolCall("clock", {})
SCRIPT = [
    STARTED,
    Delta(1, thinking="h"),
    Delta(1, "Hi", "m"),
    Delta(1),
    Delta(1, ' "yöu"', tool_calls=(ONE,)),
    Delta(1, tool_calls=(TWO,), done=DONE),
]
WEATHER = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}
WEATHER_TOOL = Tool(
    {
        "type": "function",
        "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}},
    }
)
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model can call tools."""
    known = ModelInfo.can
    monkeypatch.setattr(ModelInfo, "can", lambda info, name: name == "tools" or known(info, name))


async def ask(front: Front, script: Script, **fields: object) -> tuple[int, Any]:
    front.runners.scripts.append(script)
    return await front.post(URL, {**ASK, **fields})


async def submitted(front: Front, **fields: object) -> Submit:
    """What the runner gets for a request with these fields."""
    status, answer = await ask(front, [Delta(1, "x", done=DONE)], **fields)
    assert status == 200, answer
    return front.runners.submits[-1]


async def conversation(front: Front, **fields: object) -> Conversation:
    prompt = (await submitted(front, **fields)).prompt
    assert isinstance(prompt, Conversation)
    return prompt


async def refused(front: Front, status: int = 400, path: str = URL, **fields: object) -> str:
    got, answer = await front.post(path, {**ASK, **fields})
    assert got == status, answer
    assert answer["type"] == "error"
    return str(answer["error"]["message"])


def events(text: str) -> Iterator[dict[str, Any]]:
    """The data of each event, whose name has to be its type."""
    *blocks, end = text.split("\n\n")
    assert end == ""
    for block in blocks:
        name, data = block.split("\n")
        line = json.loads(data.removeprefix("data: "))
        assert name == f"event: {line['type']}"
        yield line


async def stream(front: Front, script: Script, **fields: object) -> list[dict[str, Any]]:
    front.runners.scripts.append(script)
    body = {**ASK, "stream": True, **fields}
    async with front.client.post(URL, json=body) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        return list(events(await answer.text()))


async def test_the_message(front: Front) -> None:
    status, answer = await ask(front, SCRIPT)
    assert status == 200
    assert re.fullmatch("msg_[0-9a-f]{24}", answer.pop("id"))
    second = answer["content"][3].pop("id")
    assert re.fullmatch("call_[a-z0-9]{8}", second)
    city = {"city": "Köln", "x": None}
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "chat",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": 'Hi "yöu"'},
            {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": city},
            {"type": "tool_use", "name": "clock", "input": {}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 5, "output_tokens": 4},
    }


async def test_the_events_in_their_order(front: Front) -> None:
    lines = await stream(front, SCRIPT)
    assert re.fullmatch("msg_[0-9a-f]{24}", lines[0]["message"].pop("id"))
    assert lines[0]["message"] == {
        "type": "message",
        "role": "assistant",
        "model": "chat",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 0},
    }
    second = lines[12]["content_block"].pop("id")
    assert second.startswith("call_")

    def start(index: int, block: object) -> object:
        return {"type": "content_block_start", "index": index, "content_block": block}

    def delta(index: int, **fields: str) -> object:
        return {"type": "content_block_delta", "index": index, "delta": fields}

    def stop(index: int) -> object:
        return {"type": "content_block_stop", "index": index}

    assert lines[1:] == [
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, type="thinking_delta", thinking="h"),
        delta(0, type="thinking_delta", thinking="m"),
        stop(0),
        start(1, {"type": "text", "text": ""}),
        delta(1, type="text_delta", text="Hi"),
        delta(1, type="text_delta", text=' "yöu"'),
        stop(1),
        start(2, {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {}}),
        delta(2, type="input_json_delta", partial_json='{"city":"Köln","x":null}'),
        stop(2),
        start(3, {"type": "tool_use", "name": "clock", "input": {}}),
        delta(3, type="input_json_delta", partial_json="{}"),
        stop(3),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"input_tokens": 5, "output_tokens": 4},
        },
        {"type": "message_stop"},
    ]


async def test_thoughts_between_texts_are_blocks_of_their_own(front: Front) -> None:
    script = [Delta(1, "a"), Delta(1, thinking="b"), Delta(1, "c", done=DONE)]
    lines = await stream(front, script)
    started = [line["content_block"]["type"] for line in lines if "content_block" in line]
    assert started == ["text", "thinking", "text"]
    assert [line["index"] for line in lines if line["type"] == "content_block_stop"] == [0, 1, 2]


async def test_an_empty_answer(front: Front) -> None:
    lines = await stream(front, [Delta(1, done=DONE)])
    assert [line["type"] for line in lines] == ["message_start", "message_delta", "message_stop"]
    assert lines[0]["message"]["usage"]["input_tokens"] == 5
    _, answer = await ask(front, [Delta(1, done=DONE)])
    assert (answer["content"], answer["stop_reason"]) == ([], "end_turn")


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (Done("stop"), {"stop_reason": "end_turn"}),
        (Done("length"), {"stop_reason": "max_tokens"}),
        (Done("stop", stop="END"), {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
        (Done("stop", stop="<|im_end|>"), {"stop_reason": "end_turn"}),
    ],
)
async def test_why_it_ended(front: Front, done: Done, expected: dict[str, str]) -> None:
    script = [Delta(1, "x", done=done)]
    _, answer = await ask(front, script, stop_sequences=["END", ""])
    assert {key: answer[key] for key in answer if key.startswith("stop_")} == expected
    assert front.runners.submits[-1].limits.stop == ("END",)
    lines = await stream(front, script, stop_sequences=["END"])
    assert lines[-2]["delta"] == expected


async def test_one_call_at_a_time(front: Front, tools: None) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    _, answer = await ask(front, SCRIPT, tools=[WEATHER], tool_choice=choice)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "tool_use"]
    lines = await stream(front, SCRIPT, tools=[WEATHER], tool_choice=choice)
    started = [line["content_block"]["type"] for line in lines if "content_block" in line]
    assert started == ["thinking", "text", "tool_use"]


async def test_the_fields_of_sampling(front: Front) -> None:
    plain = await submitted(front)
    assert (plain.limits.num_predict, plain.sampling.temperature) == (9, 0.8)
    given = await submitted(front, temperature=0, top_p=0.5, top_k=3, metadata={"user_id": "u"})
    assert (given.sampling.temperature, given.sampling.top_p, given.sampling.top_k) == (0, 0.5, 3)


async def test_the_prompt(front: Front) -> None:
    system = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
    prompt = await conversation(front, system=system)
    assert prompt.messages == (Message("system", "Be kind."), Message("user", "hello"))


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, False),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"output_config": {"effort": "xhigh"}}, "high"),
        ({"output_config": {"effort": "odd"}}, True),
    ],
)
async def test_thinking(front: Front, fields: dict[str, object], think: object) -> None:
    assert (await conversation(front, model="thinker", **fields)).think == think


@pytest.mark.parametrize(
    ("kind", "think"), [("enabled", None), ("disabled", False), ("adaptive", None)]
)
async def test_a_model_that_cannot_think_is_not_asked_to(
    front: Front, kind: str, think: object
) -> None:
    assert (await conversation(front, thinking={"type": kind})).think == think


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ""),
        ({"type": "auto"}, ""),
        ({"type": "any"}, "required"),
        ({"type": "tool", "name": "weather"}, "weather"),
    ],
)
async def test_tool_choice(front: Front, tools: None, choice: object, expected: str) -> None:
    prompt = await conversation(front, tools=[WEATHER], tool_choice=choice)
    assert (prompt.tools, prompt.tool_choice) == ((WEATHER_TOOL,), expected)


async def test_no_tools_by_choice(front: Front) -> None:
    prompt = await conversation(front, tools=[WEATHER], tool_choice={"type": "none"})
    assert (prompt.tools, prompt.tool_choice) == ((), "")


async def test_a_tool_without_schema_has_no_parameters(front: Front, tools: None) -> None:
    prompt = await conversation(front, tools=[{"name": "clock", "type": "custom"}])
    function = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
    assert prompt.tools == (Tool({"type": "function", "function": function}),)


async def test_a_tool_of_the_server_is_left_out_beside_others(front: Front, tools: None) -> None:
    prompt = await conversation(front, tools=[SEARCH, WEATHER])
    assert prompt.tools == (WEATHER_TOOL,)


async def test_a_structured_answer(front: Front) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    config = {"format": {"type": "json_schema", "schema": schema}}
    assert json.loads((await submitted(front, output_config=config)).schema) == schema


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": ""}, "model is required"),
        ({"model": None, "max_tokens": 0, "messages": []}, "model is required"),
        ({"max_tokens": None}, "max_tokens is required and must be positive"),
        ({"max_tokens": -1}, "max_tokens is required and must be positive"),
        ({"messages": []}, "messages is required"),
        ({"tools": [WEATHER]}, f"{FULL} does not support tools"),
        ({"model": "vectors"}, '"vectors" does not support chat'),
        ({"tools": [{"name": "f", "input_schema": []}]}, "invalid input_schema for tool"),
        ({"tools": [{"input_schema": {}}]}, "a tool has no name"),
        ({"tools": [SEARCH]}, 'the tool type "web_search_20250305" is not supported'),
        ({"tool_choice": {"type": "any"}}, 'tool_choice "any" needs tools'),
        ({"tool_choice": {"type": "some"}}, "json: tool_choice.type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "json: messages.0.role"),
        ({"stop_sequences": "x"}, "json: stop_sequences"),
    ],
)
async def test_what_is_refused(front: Front, fields: dict[str, Any], error: str) -> None:
    assert (await refused(front, **fields)).startswith(error)


async def test_a_choice_of_a_tool_that_is_not_offered(front: Front, tools: None) -> None:
    choice = {"type": "tool", "name": "x"}
    text = await refused(front, tools=[WEATHER], tool_choice=choice)
    assert text == 'tool_choice names "x", which is not among the tools'


async def test_images_are_refused(front: Front) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "x", "data": "aGk="}}
    text = await refused(front, messages=[{"role": "user", "content": [image]}])
    assert text == "images are not supported yet; leave them out"


async def test_unknown_models_and_empty_bodies(front: Front) -> None:
    assert await refused(front, 404, model="none") == "model 'none' not found"
    assert await refused(front, 404, COUNT, model="none") == "model 'none' not found"
    status, text = await front.send("POST", URL, b"")
    assert (status, json.loads(text)["error"]["message"]) == (400, "EOF")
    status, text = await front.send("POST", URL, b"{")
    assert status == 400
    assert "JSON" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("error", "status"), [(BadRequest("why"), 400), (RunnerDied("why"), 500)])
async def test_an_error_before_the_first_event_has_a_status(
    front: Front, streamed: bool, error: Exception, status: int
) -> None:
    front.runners.scripts.append([error])
    assert await refused(front, status, stream=streamed) == "why"


async def test_a_failed_load_and_a_full_queue(front: Front) -> None:
    for error, status in ((LoadFailed("why"), 500), (Busy("why"), 503)):
        front.runners.load_error = error
        assert await refused(front, status, stream=True) == "why"


async def test_an_error_within_a_stream_is_its_last_event(front: Front) -> None:
    lines = await stream(front, [STARTED, Delta(1, "Hi"), RunnerDied("why")])
    assert [line["type"] for line in lines] == [
        *("message_start", "content_block_start", "content_block_delta", "error")
    ]
    assert lines[-1]["error"] == {"type": "api_error", "message": "why"}


async def test_count_tokens(front: Front, tools: None) -> None:
    done = msgspec.structs.replace(DONE, reason="render", prompt_tokens=12)
    front.runners.scripts.append([Delta(1, "the prompt", done=done)])
    body = {**ASK, "max_tokens": None, "tools": [WEATHER], "system": "Be kind."}
    assert await front.post(COUNT, body) == (200, {"input_tokens": 12})
    submit = front.runners.submits[-1]
    assert submit.render_only
    assert isinstance(submit.prompt, Conversation)
    assert submit.prompt.tools == (WEATHER_TOOL,)
    assert submit.prompt.messages[0] == Message("system", "Be kind.")


@pytest.mark.parametrize("streamed", [True, False])
async def test_dropped_messages_are_told_in_a_header(front: Front, streamed: bool) -> None:
    started = Delta(1, started=Started(prompt_tokens=5, dropped_messages=3))
    front.runners.scripts.append([started, Delta(1, "x", done=DONE)])
    async with front.client.post(URL, json={**ASK, "stream": streamed}) as answer:
        assert answer.headers["Outrider-Truncated"] == "3"
