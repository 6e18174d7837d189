"""What all dialects check and fill in alike (CONTRACT 1.2, 1.3, 1.4 and 1.7)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from outrider.daemon.api.request import (
    ANY_OBJECT,
    answer_schema,
    build_conversation,
    check_capabilities,
    missing_capability,
    read_tools,
    refuse_images,
)
from outrider.daemon.chat.conversation import Message, Tool, ToolCall
from outrider.daemon.errors import BadRequest, InvalidFormat, Unsupported
from outrider.daemon.runners.model_info import ModelIndex, ModelInfo
from outrider.models.store import Store

pytestmark = pytest.mark.unit

HELLO = (Message("user", "hello"),)


async def info_of(root: Path, name: str) -> ModelInfo:
    return await ModelIndex(Store(root)).find(name, "not found")


@pytest.mark.parametrize(
    ("model", "think", "suffix", "tools", "missing"),
    [
        ("chat", None, "", False, None),
        ("chat", False, "", False, None),
        ("chat", True, "x", True, "thinking"),
        ("chat", "low", "", False, "thinking"),
        ("chat", None, "x", True, "insert"),
        ("chat", None, "", True, "tools"),
        ("thinker", True, "", False, None),
        ("vectors", None, "x", True, "completion"),
    ],
)
async def test_the_first_capability_that_is_missing(
    header_store: Path,
    model: str,
    think: bool | str | None,
    suffix: str,
    tools: bool,
    missing: str | None,
) -> None:
    info = await info_of(header_store, model)
    assert missing_capability(info, think=think, suffix=suffix, tools=tools) == missing


@pytest.mark.parametrize(
    ("model", "think", "suffix", "tools", "text"),
    [
        ("chat", True, "", False, '"Chat" does not support thinking'),
        (
            "chat",
            None,
            "x",
            False,
            "registry.ollama.ai/library/chat:latest does not support insert",
        ),
        ("chat", None, "", True, "registry.ollama.ai/library/chat:latest does not support tools"),
        ("vectors", None, "", False, '"Chat" does not support generate'),
    ],
)
async def test_what_a_model_lacks_is_said_in_ollamas_words(
    header_store: Path, model: str, think: bool | None, suffix: str, tools: bool, text: str
) -> None:
    info = await info_of(header_store, model)
    with pytest.raises(BadRequest) as caught:
        check_capabilities(info, "Chat", "generate", think=think, suffix=suffix, tools=tools)
    assert str(caught.value) == text
    check_capabilities(await info_of(header_store, "thinker"), "x", "chat", think=True)


def test_a_tool_keeps_its_definition_but_for_nulls() -> None:
    parameters = {"type": "object", "properties": {"a": {"default": None, "minimum": 1}}}
    function = {"name": "f", "parameters": parameters, "strict": True}
    given = {"type": "function", "function": {**function, "description": None}, "extra": None}
    assert read_tools([given]) == (Tool({"type": "function", "function": function}),)
    assert read_tools([]) == ()


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ({}, "tools.1: a tool needs a `function` object"),
        ({"function": "f"}, "tools.1: a tool needs a `function` object"),
        ({"function": {}}, "tools.1: a tool needs `function.name`"),
        ({"function": {"name": ""}}, "tools.1: a tool needs `function.name`"),
        ({"function": {"name": 3}}, "tools.1: a tool needs `function.name`"),
        (
            {"function": {"name": "f", "description": 3}},
            "tools.1: the description of f must be a string",
        ),
        (
            {"function": {"name": "f", "parameters": []}},
            "tools.1: the parameters of f must be a JSON schema object",
        ),
    ],
)
def test_a_tool_that_no_model_can_call_is_refused(definition: dict[str, object], text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_tools([{"function": {"name": "fine"}}, definition])
    assert str(caught.value) == text


def test_images_are_refused() -> None:
    refuse_images(False)
    with pytest.raises(Unsupported):
        refuse_images(True)


def test_a_format_becomes_a_schema() -> None:
    assert answer_schema("") == ""
    assert answer_schema("json") == ANY_OBJECT
    assert json.loads(answer_schema({})) == {}
    assert json.loads(answer_schema({"type": "array"})) == {"type": "array"}
    with pytest.raises(InvalidFormat, match='invalid format: "\\\\"xml\\\\""'):
        answer_schema("xml")


async def test_a_conversation_begins_with_what_the_model_brings(header_store: Path) -> None:
    info = await info_of(header_store, "full")
    kind, hello = Message("system", "be kind"), Message("user", "hello")
    assert build_conversation(info, HELLO, think=None).messages == (kind, hello)
    own = build_conversation(info, HELLO, think=None, system="mine")
    assert own.messages == (Message("system", "mine"), hello)
    given = (Message("system", "theirs"), hello)
    assert build_conversation(info, given, think=None).messages == given


async def test_stored_messages_come_before_those_of_the_request(header_store: Path) -> None:
    info = await info_of(header_store, "chat")
    lines = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
    info = replace(info, model=replace(info.model, messages=lines))
    stored = (Message("user", "hi"), Message("assistant", "ho"))
    assert build_conversation(info, HELLO, think=None).messages == (*stored, *HELLO)
    without = build_conversation(info, HELLO, think=None, with_stored=False)
    assert without.messages == HELLO


@pytest.mark.parametrize(
    ("model", "asked", "think"),
    [("thinker", None, True), ("thinker", False, False), ("thinker", "low", "low"),
     ("chat", None, None)],
)  # fmt: skip
async def test_a_model_that_can_think_does(
    header_store: Path, model: str, asked: bool | str | None, think: object
) -> None:
    info = await info_of(header_store, model)
    assert build_conversation(info, HELLO, think=asked).think == think


async def test_tools_and_the_choice_of_one_are_kept(header_store: Path) -> None:
    tools = (Tool({"type": "function"}),)
    info = await info_of(header_store, "chat")
    conversation = build_conversation(info, HELLO, think=None, tools=tools, tool_choice="f")
    assert (conversation.tools, conversation.tool_choice) == (tools, "f")


async def test_wide_integers_become_floats_which_a_runner_can_be_sent(header_store: Path) -> None:
    info = await info_of(header_store, "chat")
    wide: dict[str, object] = {"n": [2**64, -(2**63) - 1, 2**64 - 1, True, {"x": 2**80}]}
    sent: dict[str, object] = {
        "n": [float(2**64), float(-(2**63)), 2**64 - 1, True, {"x": float(2**80)}]
    }
    messages = (Message("assistant", tool_calls=(ToolCall("f", wide),)),)
    conversation = build_conversation(info, messages, think=None, tools=(Tool(wide),))
    assert conversation.messages[0].tool_calls[0].arguments == sent
    assert conversation.tools == (Tool(sent),)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(conversation))


async def test_what_no_runner_can_be_sent_is_refused(header_store: Path) -> None:
    info = await info_of(header_store, "chat")
    with pytest.raises(BadRequest, match="too large"):
        build_conversation(info, HELLO, think=None, tools=(Tool({"n": 10**400}),))
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadRequest, match="nested too deeply"):
        build_conversation(info, HELLO, think=None, tools=(Tool({"n": deep}),))
