"""The prompts of Nemotron 3."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.nemotron35 import Nemotron35Renderer

pytestmark = pytest.mark.unit

TOOL = Tool(
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": " Asks. ",
            "parameters": {
                "type": "object",
                "required": ["city"],
                "properties": {
                    "city": {"type": "string", "enum": ["Köln"], "minLength": 1},
                    "days": {"type": ["integer", "null"], "description": "how many"},
                },
                "additionalProperties": False,
            },
        },
    }
)
DECLARATION = """<tools>
<function>
<name>weather</name>
<description>Asks.</description>
<parameters>
<parameter>
<name>city</name>
<type>string</type>
<enum>["Köln"]</enum>
<minLength>1</minLength>
</parameter>
<parameter>
<name>days</name>
<type>['integer', 'null']</type>
<description>how many</description>
</parameter>
<additionalProperties>False</additionalProperties>
<required>["city"]</required>
</parameters>
</function>
</tools>"""
HI = Message("user", "Hi")
EMPTY = "<|im_start|>system\n<|im_end|>\n"
USER = "<|im_start|>user\nHi<|im_end|>\n"
HEAD = "<|im_start|>assistant\n"


def prompt(*messages: Message, think: bool | None = None, tools: tuple[Tool, ...] = ()) -> str:
    return Nemotron35Renderer().render(Conversation(messages, tools, think))


@pytest.mark.parametrize(
    ("think", "opened"),
    [(None, "<think>\n"), (True, "<think>\n"), (False, "<think></think>")],
)
def test_there_is_always_a_system_turn(think: bool | None, opened: str) -> None:
    assert prompt(HI, think=think) == f"{EMPTY}{USER}{HEAD}{opened}"
    assert prompt(Message("system", "S"), HI, think=think) == (
        f"<|im_start|>system\nS<|im_end|>\n{USER}{HEAD}{opened}"
    )


def test_a_tool_is_declared_as_xml() -> None:
    text = prompt(Message("system", "S"), HI, tools=(TOOL,))
    assert text.startswith("<|im_start|>system\nS\n\n# Tools\n\nYou have access to")
    assert DECLARATION in text
    assert "</IMPORTANT><|im_end|>\n" in text
    assert prompt(HI, tools=(TOOL,)).startswith("<|im_start|>system\n# Tools\n\n")


def test_calls_and_results() -> None:
    call = ToolCall("weather", {"city": "Köln", "days": 2, "rain": True, "units": ["a"]})
    text = prompt(
        HI,
        Message("assistant", "", "hm\n", (call,)),
        Message("tool", "wet"),
        Message("tool", "dry"),
    )
    assert text == (
        f"{EMPTY}{USER}{HEAD}<think>\nhm\n</think>\n<tool_call>\n<function=weather>\n"
        "<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "<parameter=rain>\nTrue\n</parameter>\n"
        '<parameter=units>\n["a"]\n</parameter>\n</function>\n</tool_call>\n<|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nwet\n</tool_response>\n<tool_response>\ndry\n"
        f"</tool_response>\n<|im_end|>\n{HEAD}<think>\n"
    )


def test_old_thoughts_are_left_out() -> None:
    assert prompt(HI, Message("assistant", " yes ", "hm"), HI) == (
        f"{EMPTY}{USER}{HEAD}<think></think> yes<|im_end|>\n{USER}{HEAD}<think>\n"
    )


def test_a_last_answer_is_continued() -> None:
    assert prompt(HI, Message("assistant", "So ")) == f"{EMPTY}{USER}{HEAD}<think></think>So "
    assert prompt(HI, Message("assistant", "So", "hm")) == (
        f"{EMPTY}{USER}{HEAD}<think>\nhm</think>So"
    )
