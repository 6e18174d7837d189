"""Items of /v1/responses become messages (CONTRACT 2.6)."""

from __future__ import annotations

import pytest
from outrider.daemon.api.openai.response_items import read_items
from outrider.daemon.api.openai.responses_wire import ResponsesRequest
from outrider.daemon.chat.conversation import Message, ToolCall
from outrider.daemon.errors import BadRequest, Unsupported

pytestmark = pytest.mark.unit

CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"K"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "21 °C"}
WEATHER = ToolCall("weather", {"city": "K"}, "c1", 0)
TOLD = Message("tool", "21 °C", tool_name="weather", tool_call_id="c1")


def convert(*items: object, instructions: str = "") -> list[Message]:
    body = ResponsesRequest.model_validate({"input": list(items)})
    return list(read_items(instructions, body.input or ()))


def say(role: str, text: str) -> dict[str, object]:
    return {"type": "message", "role": role, "content": text}


def test_a_text_is_a_message_of_the_user() -> None:
    body = ResponsesRequest.model_validate({"input": "hi"})
    assert read_items("", body.input or ()) == (Message("user", "hi"),)


def test_instructions_go_first() -> None:
    expected = [Message("system", "Be kind."), Message("user", "hi")]
    assert convert(say("user", "hi"), instructions="Be kind.") == expected


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
def test_messages_need_no_type(role: str) -> None:
    assert convert({"role": role, "content": "hi"}) == [Message(role, "hi")]


def test_the_parts_of_a_message() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]
    assert convert({"role": "user", "content": parts}) == [Message("user", "a\n\nb")]
    parts = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "No."}]
    assert convert({"role": "assistant", "content": parts}) == [Message("assistant", "a\n\nNo.")]


def test_a_call_and_its_result() -> None:
    assert convert(say("user", "hi"), CALL, RESULT) == [
        Message("user", "hi"),
        Message("assistant", tool_calls=(WEATHER,)),
        TOLD,
    ]


def test_a_call_joins_the_message_in_front_of_it() -> None:
    said = Message("assistant", "Let me look.", tool_calls=(WEATHER,))
    assert convert(say("assistant", "Let me look."), CALL, RESULT) == [said, TOLD]
    assert convert(CALL, say("assistant", "Let me look."), RESULT) == [said, TOLD]


def test_calls_side_by_side_are_one_turn() -> None:
    second = {**CALL, "call_id": "c2", "arguments": ""}
    messages = convert(CALL, second, RESULT, {**RESULT, "call_id": "c2"})
    assert messages[0].tool_calls == (WEATHER, ToolCall("weather", {}, "c2", 1))
    assert [message.tool_call_id for message in messages[1:]] == ["c1", "c2"]
    assert len(convert(CALL, RESULT, second, {**RESULT, "call_id": "c2"})) == 4


def test_a_member_of_a_namespace() -> None:
    messages = convert({**CALL, "namespace": "mcp"}, RESULT)
    assert messages[0].tool_calls[0].name == messages[1].tool_name == "mcp.weather"


def test_a_thought_belongs_to_the_next_turn() -> None:
    summary = [{"type": "summary_text", "text": "short"}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "hm"}
    assert convert(thought, say("assistant", "a")) == [Message("assistant", "a", "hm")]
    assert convert({**thought, "encrypted_content": None}, CALL) == [
        Message("assistant", thinking="short", tool_calls=(WEATHER,))
    ]
    assert convert(thought, say("user", "b")) == [Message("user", "b")]


def test_a_result_in_parts_and_a_search_of_a_server() -> None:
    parts = [{"type": "input_text", "text": "21"}, {"type": "input_text", "text": "°C"}]
    result = {**RESULT, "output": parts}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    assert convert(search, CALL, result)[1].content == "21\n\n°C"


@pytest.mark.parametrize(
    ("item", "kind", "error"),
    [
        ({"type": "item_reference"}, BadRequest, 'unknown input item type: "item_reference"'),
        ({}, BadRequest, 'unknown input item type: ""'),
        ({**CALL, "arguments": "{"}, BadRequest, "invalid tool call arguments"),
        ({**CALL, "arguments": "[]"}, BadRequest, "invalid tool call arguments"),
        (
            {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]},
            BadRequest,
            "file inputs are not currently supported",
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]},
            Unsupported,
            "images are not supported yet; leave them out",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio"}]},
            BadRequest,
            'unknown content type: "input_audio"',
        ),
    ],
)
def test_what_is_refused(item: object, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind) as caught:
        convert(say("user", "hi"), item)
    assert str(caught.value) == f"input[1]: {error}"
