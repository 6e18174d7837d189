"""The prompts of DeepSeek V3.1 and Cogito 2."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Infill, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.cogito import CogitoRenderer
from outrider.daemon.chat.render.builtin.deepseek import DeepSeek31Renderer
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool(
    {
        "type": "function",
        "function": {"name": "weather", "description": "Asks.", "parameters": PARAMETERS},
    }
)
SYSTEM, HI = Message("system", "S"), Message("user", "Hi")
CALL = Message("assistant", "Wait.", tool_calls=(ToolCall("weather", {"city": "Köln"}),))
RESULT = Message("tool", "wet", tool_name="weather")
WORDED_CALL = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
    '{"city": "Köln"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
)
TOOLS = """## Tools
You have access to the following tools:

### weather
Description: Asks.

Parameters: {"type": "object", "properties": {"city": {"type": "string"}}}

IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments\
<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>

Where:
- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces"""


def deepseek(*messages: Message, think: bool | None = None, tools: tuple[Tool, ...] = ()) -> str:
    prompt = DeepSeek31Renderer().render(Conversation(messages, tools, think))
    return prompt.removeprefix("<｜begin▁of▁sentence｜>")


def cogito(*messages: Message, think: bool | None = None, tools: tuple[Tool, ...] = ()) -> str:
    prompt = CogitoRenderer().render(Conversation(messages, tools, think))
    return prompt.removeprefix("<｜begin▁of▁sentence｜>")


@pytest.mark.parametrize(
    ("think", "tag"), [(True, "<think>"), (False, "</think>"), (None, "</think>")]
)
def test_the_prompt_decides_on_thinking(think: bool | None, tag: str) -> None:
    assert deepseek(SYSTEM, HI, think=think) == f"S<｜User｜>Hi<｜Assistant｜>{tag}"


def test_system_messages_are_joined() -> None:
    assert deepseek(SYSTEM, Message("system", "T"), HI).startswith("S\n\nT<｜User｜>Hi")


def test_tools_are_declared_after_the_system_prompt() -> None:
    assert deepseek(SYSTEM, HI, tools=(WEATHER,)) == (
        f"S\n\n{TOOLS}<｜User｜>Hi<｜Assistant｜></think>"
    )


def test_an_answer_follows_its_tool_result_in_the_same_turn() -> None:
    called = f"<｜User｜>Hi<｜Assistant｜></think>Wait.{WORDED_CALL}<｜end▁of▁sentence｜>"
    answered = f"{called}<｜tool▁output▁begin｜>wet<｜tool▁output▁end｜>"
    assert deepseek(HI, CALL, RESULT) == answered
    assert deepseek(HI, CALL, RESULT, Message("assistant", "Wet."), HI) == (
        f"{answered}Wet.<｜end▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>"
    )


def test_old_thoughts_are_left_out() -> None:
    for old in (Message("assistant", "yes", "hm"), Message("assistant", "<think>hm</think>yes")):
        assert deepseek(HI, old, HI, think=True) == (
            "<｜User｜>Hi<｜Assistant｜></think>yes<｜end▁of▁sentence｜>"
            "<｜User｜>Hi<｜Assistant｜><think>"
        )


def test_a_last_answer_is_continued() -> None:
    start = "<｜User｜>Hi<｜Assistant｜>"
    assert deepseek(HI, Message("assistant", "So")) == f"{start}</think>So"
    assert deepseek(HI, Message("assistant", "So", "hm"), think=True) == (
        f"{start}<think>hm</think>So"
    )


IDENTITY = (
    "You are Cogito, an AI assistant created by Deep Cogito, which is an AI research lab based in "
    "San Francisco."
)


def test_cogito_thinks_if_the_system_prompt_says_so() -> None:
    assert cogito(HI) == f"{IDENTITY}<｜User｜>Hi<｜Assistant｜>"
    assert cogito(SYSTEM, HI) == f"{IDENTITY}\n\nS<｜User｜>Hi<｜Assistant｜>"
    assert cogito(SYSTEM, HI, think=True) == (
        f"Enable deep thinking subroutine.\n\n{IDENTITY}\n\nS\n\n"
        "<｜User｜>Hi<｜Assistant｜><think>\n"
    )


def test_calls_of_cogito() -> None:
    prompt = cogito(HI, CALL, RESULT, RESULT, tools=(WEATHER,))
    declared, _, rest = prompt.partition("<｜User｜>")
    assert declared.startswith(f"{IDENTITY}\nYou have the following functions available:\n```json")
    assert rest == (
        "Hi<｜Assistant｜>Wait.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        'weather\n```json\n{"city": "Köln"}\n```<｜tool▁call▁end｜>'
        "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
        "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>wet<｜tool▁output▁end｜>"
        "\n<｜tool▁output▁begin｜>wet<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
    )
    assert cogito(HI, Message("assistant", "So")).endswith("<｜Assistant｜>So")


@pytest.mark.parametrize("renderer", [DeepSeek31Renderer(), CogitoRenderer()])
def test_no_gap_is_filled(renderer: DeepSeek31Renderer | CogitoRenderer) -> None:
    with pytest.raises(BadRequest, match="gap"):
        renderer.render_infill(Infill("a", "b"))
