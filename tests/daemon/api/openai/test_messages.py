"""How OpenAI's messages, tools and efforts become those of a conversation (CONTRACT 2.2)."""

from __future__ import annotations

import pytest
from outrider.daemon.api.openai.messages import offered_tools, read_messages, think_of
from outrider.daemon.api.openai.wire import ChatMessage
from outrider.daemon.chat.conversation import Message, Tool, ToolCall
from outrider.daemon.errors import BadRequest, Unsupported

pytestmark = pytest.mark.unit

PIXEL = "data:image/png;base64,iVBORw0KGgo="
TEXT = {"type": "text", "text": "a"}
WEATHER = {"type": "function", "function": {"name": "weather"}}
TIME = {"type": "function", "function": {"name": "time"}}


def call(call_id: str, name: str, arguments: object) -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def read(*messages: dict[str, object]) -> tuple[Message, ...]:
    return read_messages([ChatMessage.model_validate(message) for message in messages])


def test_plain_messages() -> None:
    assert read(
        {"role": "developer", "content": "be kind"},
        {"role": "User", "content": "hi", "name": "Ann"},
        {"role": "assistant", "content": "ho", "reasoning": "hm", "refusal": None},
        {"role": "assistant", "content": "ho", "reasoning_content": "hm"},
    ) == (
        Message("developer", "be kind"),
        Message("user", "hi"),
        Message("assistant", "ho", thinking="hm"),
        Message("assistant", "ho", thinking="hm"),
    )


def test_each_part_is_a_message_and_the_last_has_the_rest() -> None:
    parts = [TEXT, {"type": "text", "text": "b"}]
    calls = [call("1", "f", "{}")]
    assert read({"role": "user", "content": parts}) == (Message("user", "a"), Message("user", "b"))
    assert read(
        {"role": "assistant", "content": parts, "reasoning": "hm", "tool_calls": calls}
    ) == (
        Message("assistant", "a"),
        Message("assistant", "b", thinking="hm", tool_calls=(ToolCall("f", {}, "1"),)),
    )
    assert read({"role": "user", "content": []}) == (Message("user", ""),)


def test_calls_and_their_results() -> None:
    given = [call("1", "weather", '{"b":1,"a":{"c":"ü"}}'), call("2", "time", "")]
    *_, asked, named, resolved, unknown = read(
        {"role": "assistant", "content": None, "tool_calls": [call("2", "older", "null")]},
        {"role": "assistant", "content": None, "tool_calls": given},
        {"role": "tool", "content": "sun", "tool_call_id": "1", "name": "mine"},
        {"role": "tool", "content": [TEXT, TEXT], "tool_call_id": "2"},
        {"role": "tool", "content": "?", "tool_call_id": "3"},
    )
    assert asked.content == ""
    assert asked.tool_calls == (
        ToolCall("weather", {"b": 1, "a": {"c": "ü"}}, "1"),
        ToolCall("time", {}, "2"),
    )
    assert list(asked.tool_calls[0].arguments) == ["b", "a"]
    assert named == Message("tool", "sun", tool_name="mine", tool_call_id="1")
    assert resolved == Message("tool", "a\n\na", tool_name="time", tool_call_id="2")
    assert unknown == Message("tool", "?", tool_call_id="3")


def test_arguments_may_be_an_object() -> None:
    (message,) = read({"role": "assistant", "tool_calls": [call("1", "f", {"a": 1})]})
    assert message.tool_calls == (ToolCall("f", {"a": 1}, "1"),)


@pytest.mark.parametrize("arguments", ["{", "[]", "3", '"x"', "{} x"])
def test_arguments_that_are_no_object(arguments: str) -> None:
    with pytest.raises(BadRequest, match="invalid tool call arguments"):
        read({"role": "assistant", "tool_calls": [call("1", "f", arguments)]})


def image(url: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": url}


def audio(data: object) -> dict[str, object]:
    return {"type": "input_audio", "input_audio": data}


NO_URLS = "image URLs are not currently supported, please use base64 encoded data instead"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "invalid message content type: <nil>"),
        (3, "invalid message content type: number"),
        ({}, "invalid message content type: object"),
        (["a"], "invalid message format"),
        ([{}], "invalid message format"),
        ([{"type": "text"}], "invalid message format"),
        ([{"type": "text", "text": 3}], "invalid message format"),
        ([{"type": "video"}], "invalid message format"),
        ([image("https://example.org/a.png")], NO_URLS),
        ([image({"url": "http://example.org/a.png"})], NO_URLS),
        ([image({})], "invalid image input"),
        ([image("data:image/gif;base64,AAAA")], "invalid image input"),
        ([image("data:image/png;base64,A")], "invalid image input"),
        ([image("AAAA")], "invalid image input"),
        ([audio("AAAA")], "invalid input_audio format"),
        ([audio({"format": "wav"})], "invalid input_audio format: missing data"),
        ([audio({"data": "A", "format": "wav"})], "invalid input_audio base64 data: "),
    ],
)
def test_a_malformed_content(content: object, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read({"role": "user", "content": content})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "part",
    [
        image(PIXEL),
        image({"url": "data:;base64,AAAA", "detail": "low"}),
        audio({"data": "AAAA", "format": "wav"}),
    ],
)
def test_images_and_audio_are_refused_as_such(part: dict[str, object]) -> None:
    with pytest.raises(Unsupported, match="not supported yet; leave"):
        read({"role": "user", "content": [TEXT, part]})


@pytest.mark.parametrize(
    ("effort", "think"),
    [("", None), ("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"),
     ("high", "high"), ("max", "max"), ("xhigh", "max"), ("ultra", "max")],
)  # fmt: skip
def test_an_effort(effort: str, think: bool | str | None) -> None:
    assert think_of(effort) == think


def test_an_unknown_effort() -> None:
    with pytest.raises(BadRequest) as caught:
        think_of("lots")
    assert str(caught.value) == (
        'invalid reasoning value: "lots" (must be "minimal", "low", "medium", "high", "xhigh", '
        '"ultra", "max", or "none")'
    )


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "demanded"),
    [("auto", ""), ("", ""), ("required", "required"), (named("time"), "time")],
)
def test_a_tool_choice(choice: str | dict[str, object], demanded: str) -> None:
    tools, tool_choice = offered_tools([WEATHER, TIME], choice)
    assert tools == (Tool(WEATHER), Tool(TIME))
    assert tool_choice == demanded


def test_no_tool_is_shown_if_none_may_be_called() -> None:
    assert offered_tools([WEATHER], "none") == ((), "")
    assert offered_tools([], "auto") == ((), "")


@pytest.mark.parametrize(
    ("tools", "choice", "text"),
    [
        ([], "required", "tool_choice demands a call, but the request has no tools"),
        ([], named("time"), "tool_choice demands a call, but the request has no tools"),
        ([WEATHER], named("time"), 'tool_choice: no tool is named "time"'),
        ([WEATHER], "weather", "invalid tool_choice: "),
        ([WEATHER], {"type": "function"}, "invalid tool_choice: "),
        ([WEATHER], named(""), "invalid tool_choice: "),
        ([{"type": "custom"}], "none", "tools.0: a tool needs a `function` object"),
    ],
)
def test_a_tool_choice_that_cannot_be_followed(
    tools: list[dict[str, object]], choice: str | dict[str, object], text: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        offered_tools(tools, choice)
    assert str(caught.value).startswith(text)
