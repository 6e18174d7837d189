"""/v1/responses without weights (CONTRACT 2.6)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fake_runner import DONE, Script
from front import Front
from outrider.daemon.chat.conversation import Conversation, Message, ToolCall
from outrider.daemon.errors import BadRequest, Busy, RunnerDied
from outrider.daemon.protocol import Delta, Done, Started, Submit
from outrider.daemon.runners.model_info import ModelInfo

pytestmark = pytest.mark.unit

URL = "/v1/responses"
ASK = {"model": "chat", "input": "hello"}
FULL = "registry.ollama.ai/library/chat:latest"
STARTED = Delta(1, started=Started(prompt_tokens=5))
ONE = ToolCall("weather", {"city": "Köln"}, "call_a")
TWO = ToolCall("mcp.clock", {}, "call_b")
SCRIPT = [
    STARTED,
    Delta(1, thinking="h"),
    Delta(1, "Hi", "m"),
    Delta(1, ' "yöu"', tool_calls=(ONE,)),
    Delta(1, tool_calls=(TWO,), done=DONE),
]
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CLOCK = {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "clock"}]}
TOOLS = [WEATHER, CLOCK]
USAGE = {
    "input_tokens": 5,
    "output_tokens": 4,
    "total_tokens": 9,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens_details": {"reasoning_tokens": 0},
}
ONE_ITEM = {
    "type": "function_call",
    "status": "completed",
    "call_id": "call_a",
    "name": "weather",
    "arguments": '{"city":"Köln"}',
}
TWO_ITEM = {
    "type": "function_call",
    "status": "completed",
    "call_id": "call_b",
    "name": "clock",
    "arguments": "{}",
    "namespace": "mcp",
}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model can call tools."""
    known = ModelInfo.can
    monkeypatch.setattr(ModelInfo, "can", lambda info, name: name == "tools" or known(info, name))


def output_text(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(text: str) -> dict[str, object]:
    head = {"type": "message", "status": "completed", "role": "assistant"}
    return {**head, "content": [output_text(text)]}


def reasoning(text: str) -> dict[str, object]:
    summary = [{"type": "summary_text", "text": text}]
    return {"type": "reasoning", "summary": summary, "encrypted_content": text}


async def ask(front: Front, script: Script, **fields: object) -> Any:
    front.runners.scripts.append(script)
    status, answer = await front.post(URL, {**ASK, **fields})
    assert status == 200, answer
    return answer


async def submitted(front: Front, **fields: object) -> Submit:
    """What the runner gets for a request with these fields."""
    await ask(front, [Delta(1, "x", done=DONE)], **fields)
    return front.runners.submits[-1]


async def conversation(front: Front, **fields: object) -> Conversation:
    prompt = (await submitted(front, **fields)).prompt
    assert isinstance(prompt, Conversation)
    return prompt


async def refused(front: Front, status: int = 400, **fields: object) -> str:
    got, answer = await front.post(URL, {**ASK, **fields})
    assert got == status, answer
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    return str(answer["error"]["message"])


async def stream(front: Front, script: Script, **fields: object) -> list[dict[str, Any]]:
    """The data of each event; numbers and names are checked and the numbers taken off."""
    front.runners.scripts.append(script)
    body = {**ASK, "stream": True, **fields}
    async with front.client.post(URL, json=body) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        *blocks, end = (await answer.text()).split("\n\n")
    assert end == ""
    pairs = [block.split("\n") for block in blocks]
    lines = [json.loads(data.removeprefix("data: ")) for _, data in pairs]
    assert [name for name, _ in pairs] == [f"event: {line['type']}" for line in lines]
    assert [line.pop("sequence_number") for line in lines] == list(range(len(lines)))
    return lines


def without_id(item: dict[str, Any], prefix: str) -> dict[str, Any]:
    assert re.fullmatch(f"{prefix}_[0-9a-f]{{24}}", item["id"])
    return {key: value for key, value in item.items() if key != "id"}


async def test_the_response(front: Front, tools: None) -> None:
    answer = await ask(front, SCRIPT, tools=TOOLS)
    output = answer.pop("output")
    assert [without_id(item, item["id"].split("_")[0]) for item in output] == [
        reasoning("hm"),
        message('Hi "yöu"'),
        ONE_ITEM,
        TWO_ITEM,
    ]
    assert re.fullmatch("resp_[0-9a-f]{24}", answer.pop("id"))
    assert answer.pop("completed_at") >= answer.pop("created_at") > 1.7e9
    assert answer == {
        "object": "response",
        "status": "completed",
        "incomplete_details": None,
        "error": None,
        "model": "chat",
        "previous_response_id": None,
        "instructions": None,
        "tools": TOOLS,
        "tool_choice": "auto",
        "truncation": "disabled",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "top_p": 1.0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "temperature": 1.0,
        "reasoning": None,
        "usage": USAGE,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": {},
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


async def test_the_events_in_their_order(front: Front, tools: None) -> None:
    lines = await stream(front, SCRIPT, tools=TOOLS)
    created, progress, *middle, completed = lines
    assert (created["type"], progress["type"]) == ("response.created", "response.in_progress")
    assert created["response"] == progress["response"]
    begun = created["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    assert begun["completed_at"] is None
    whole = completed["response"]
    assert (completed["type"], whole["status"]) == ("response.completed", "completed")
    assert (whole["usage"], whole["id"]) == (USAGE, begun["id"])
    ids = [item["id"] for item in whole["output"]]
    thought, said, first, second = whole["output"]
    assert without_id(thought, "rs") == reasoning("hm")
    assert without_id(said, "msg") == message('Hi "yöu"')
    assert without_id(first, "fc") == ONE_ITEM
    assert without_id(second, "fc") == TWO_ITEM

    def item(kind: str, index: int, value: object) -> object:
        return {"type": f"response.output_item.{kind}", "output_index": index, "item": value}

    def part(kind: str, index: int, **fields: object) -> object:
        place = {"item_id": ids[index], "output_index": index}
        return {"type": f"response.{kind}", **place, **fields}

    opened = {"status": "in_progress", "arguments": ""}
    delta, end = "function_call_arguments.delta", "function_call_arguments.done"
    summary = "reasoning_summary_text"
    assert middle == [
        item("added", 0, {"id": ids[0], "type": "reasoning", "summary": []}),
        part(f"{summary}.delta", 0, summary_index=0, delta="h"),
        part(f"{summary}.delta", 0, summary_index=0, delta="m"),
        part(f"{summary}.done", 0, summary_index=0, text="hm"),
        item("done", 0, thought),
        item("added", 1, {**said, "status": "in_progress", "content": []}),
        part("content_part.added", 1, content_index=0, part=output_text("")),
        part("output_text.delta", 1, content_index=0, delta="Hi", logprobs=[]),
        part("output_text.delta", 1, content_index=0, delta=' "yöu"', logprobs=[]),
        part("output_text.done", 1, content_index=0, text='Hi "yöu"', logprobs=[]),
        part("content_part.done", 1, content_index=0, part=output_text('Hi "yöu"')),
        item("done", 1, said),
        item("added", 2, {**first, **opened}),
        part(delta, 2, delta='{"city":"Köln"}'),
        part(end, 2, arguments='{"city":"Köln"}'),
        item("done", 2, first),
        item("added", 3, {**second, **opened}),
        part(delta, 3, delta="{}"),
        part(end, 3, arguments="{}"),
        item("done", 3, second),
    ]


async def test_text_after_a_call_is_not_lost(front: Front) -> None:
    script = [Delta(1, tool_calls=(ONE,)), Delta(1, "then", done=DONE)]
    whole = (await stream(front, script))[-1]["response"]
    assert [item["type"] for item in whole["output"]] == ["function_call", "message"]


async def test_an_empty_answer(front: Front) -> None:
    answer = await ask(front, [Delta(1, done=DONE)])
    assert without_id(answer["output"][0], "msg") == message("")
    lines = await stream(front, [Delta(1, done=DONE)])
    assert [line["type"] for line in lines] == [
        *("response.created", "response.in_progress", "response.completed")
    ]


async def test_the_status_at_the_token_limit(front: Front) -> None:
    script = [Delta(1, "x", done=Done("length", eval_tokens=3))]
    answer = await ask(front, script, max_output_tokens=3)
    assert (answer["status"], answer["incomplete_details"]) == ("completed", None)
    assert answer["max_output_tokens"] == 3
    assert front.runners.submits[-1].limits.num_predict == 3


async def test_one_call_at_a_time(front: Front, tools: None) -> None:
    answer = await ask(front, SCRIPT, tools=TOOLS, parallel_tool_calls=False)
    types = ["reasoning", "message", "function_call"]
    assert [item["type"] for item in answer["output"]] == types
    lines = await stream(front, SCRIPT, tools=TOOLS, parallel_tool_calls=False)
    assert [item["type"] for item in lines[-1]["response"]["output"]] == types


async def test_the_request_is_echoed(front: Front) -> None:
    schema = {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object"}}
    fields = {
        "instructions": "Be kind.",
        "tool_choice": "none",
        "tools": [WEATHER],
        "truncation": "auto",
        "parallel_tool_calls": False,
        "text": {"format": schema, "verbosity": "low"},
        "top_p": 0.5,
        "temperature": 0.25,
        "reasoning": {"effort": "none", "summary": "auto"},
        "max_output_tokens": 7,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
    }
    answer = await ask(front, [Delta(1, "{}", done=DONE)], **fields)
    assert {key: answer[key] for key in fields} == fields


async def test_the_options(front: Front) -> None:
    plain = await submitted(front)
    assert (plain.sampling.temperature, plain.sampling.top_p) == (1.0, 0.9)
    given = await submitted(front, temperature=0, top_p=0.5, store=True, include=["x"])
    assert (given.sampling.temperature, given.sampling.top_p) == (0, 0.5)


async def test_the_prompt(front: Front, tools: None) -> None:
    prompt = await conversation(front, instructions="Be kind.", tools=TOOLS, tool_choice="required")
    assert prompt.messages == (Message("system", "Be kind."), Message("user", "hello"))
    assert len(prompt.tools) == 2
    assert prompt.tool_choice == "required"


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        (None, True),
        ("", True),
        ("none", False),
        ("minimal", "low"),
        ("medium", "medium"),
        ("ultra", "max"),
    ],
)
async def test_the_effort(front: Front, effort: str | None, think: object) -> None:
    prompt = await conversation(front, model="thinker", reasoning={"effort": effort})
    assert prompt.think == think


@pytest.mark.parametrize(
    ("text_format", "schema"),
    [
        ({"type": "text"}, ""),
        ({"type": "json_object"}, '{"type":"object"}'),
        ({"type": "json_schema", "name": "n", "schema": {"type": "array"}}, '{"type": "array"}'),
    ],
)
async def test_the_format(front: Front, text_format: object, schema: str) -> None:
    assert (await submitted(front, text={"format": text_format})).schema == schema


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": None}, "model is required"),
        ({"input": None}, "input is required"),
        ({"input": []}, "input is required"),
        ({"input": [{"type": "x"}]}, 'input[0]: unknown input item type: "x"'),
        ({"previous_response_id": "resp_1"}, "previous_response_id is not supported"),
        ({"conversation": "conv_1"}, "conversation is not supported"),
        ({"conversation": {"id": "conv_1"}}, "conversation is not supported"),
        ({"background": True}, "background is not supported"),
        ({"prompt": {"id": "p"}}, "prompt is not supported"),
        ({"tools": [{"type": "web_search"}]}, 'the tool type "web_search" is not supported'),
        ({"tools": [WEATHER]}, f"{FULL} does not support tools"),
        ({"model": "vectors"}, '"vectors" does not support chat'),
        ({"reasoning": {"effort": "high"}}, '"chat" does not support thinking'),
        ({"reasoning": {"effort": "odd"}}, 'invalid reasoning value: "odd" (must be "minimal"'),
        ({"reasoning": {"effort": 1}}, "json: reasoning.effort"),
        ({"text": {"format": {"schema": 1}}}, "json: text.format.schema"),
        ({"input": [{"role": "tool"}]}, "json: input.0.message.role"),
        ({"input": ["hello"]}, "json: input.0"),
    ],
)
async def test_what_is_refused(front: Front, fields: dict[str, Any], error: str) -> None:
    assert (await refused(front, **fields)).startswith(error)


async def test_unknown_models_and_empty_bodies(front: Front) -> None:
    assert await refused(front, 404, model="none") == "model 'none' not found"
    status, text = await front.send("POST", URL, b"")
    error = {"message": "EOF", "type": "invalid_request_error", "param": None, "code": None}
    assert (status, json.loads(text)) == (400, {"error": error})


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("error", "status"), [(BadRequest("why"), 400), (RunnerDied("why"), 500), (Busy("why"), 503)]
)
async def test_an_error_before_the_first_event_has_a_status(
    front: Front, streamed: bool, error: Exception, status: int
) -> None:
    front.runners.scripts.append([error])
    assert await refused(front, status, stream=streamed) == "why"


async def test_an_error_within_a_stream_is_its_last_event(front: Front) -> None:
    script: Script = [STARTED, Delta(1, thinking="hm"), Delta(1, "Hi"), RunnerDied("why")]
    last = (await stream(front, script))[-1]
    assert last["type"] == "response.failed"
    failed = last["response"]
    assert (failed["status"], failed["completed_at"], failed["usage"]) == ("failed", None, None)
    assert failed["error"] == {"code": "server_error", "message": "why"}
    assert [item["type"] for item in failed["output"]] == ["reasoning"]


@pytest.mark.parametrize("streamed", [True, False])
async def test_dropped_messages_are_told_in_a_header(front: Front, streamed: bool) -> None:
    started = Delta(1, started=Started(prompt_tokens=5, dropped_messages=3))
    front.runners.scripts.append([started, Delta(1, "x", done=DONE)])
    async with front.client.post(URL, json={**ASK, "stream": streamed}) as answer:
        assert answer.headers["Outrider-Truncated"] == "3"
