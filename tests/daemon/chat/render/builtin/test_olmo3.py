"""The prompts of OLMo 3."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import Conversation, Message, Tool, ToolCall
from outrider.daemon.chat.render.builtin.registry import RENDERERS

pytestmark = pytest.mark.unit

NOW = Tool({"type": "function", "function": {"name": "now"}})
NOW_JSON = '<functions>[{"type": "function", "function": {"name": "now"}}]</functions>'
SYSTEM, HI = Message("system", "S"), Message("user", "Hi")
NO_TOOLS = " You do not currently have access to any functions. <functions></functions>"
ASKED = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def prompt(name: str, *messages: Message, tools: tuple[Tool, ...] = ()) -> str:
    return RENDERERS[name]().render(Conversation(messages, tools))


def system(text: str) -> str:
    return f"<|im_start|>system\n{text}<|im_end|>\n"


def test_without_a_system_message_the_model_has_one() -> None:
    identity = "You are a helpful function-calling AI assistant."
    assert prompt("olmo3", HI) == system(identity + NO_TOOLS) + ASKED
    olmo31 = prompt("olmo3.1", HI)
    assert olmo31.startswith("<|im_start|>system\nYou are Olmo, a helpful function-calling AI")
    assert olmo31.endswith(f"huggingface.co/allenai.{NO_TOOLS}<|im_end|>\n{ASKED}")
    assert prompt("olmo3-32b-think", HI) == (
        f"{system('You are a helpful AI assistant.')}{ASKED}<think>"
    )
    assert prompt("olmo3-think", HI).endswith(f"huggingface.co/allenai.<|im_end|>\n{ASKED}<think>")


def test_a_system_message_takes_its_place() -> None:
    assert prompt("olmo3", SYSTEM, HI) == system("S") + ASKED
    assert prompt("olmo3-think", SYSTEM, HI) == f"{system('S' + NO_TOOLS)}{ASKED}<think>"


def test_tools_are_declared_in_the_system_turn() -> None:
    assert prompt("olmo3", SYSTEM, HI, tools=(NOW,)) == system("S" + NOW_JSON) + ASKED
    declared = prompt("olmo3", HI, tools=(NOW,))
    assert declared.startswith(
        "<|im_start|>system\nYou are a helpful function-calling AI assistant. You are provided "
        "with function signatures within <functions></functions> XML tags."
    )
    assert f"what values to plug into functions.{NOW_JSON}<|im_end|>\n{ASKED}" in declared


def test_calls_and_results() -> None:
    calls = (ToolCall("now", {}), ToolCall("add", {"y": 1, "x": 'a "b"'}))
    text = prompt(
        "olmo3", SYSTEM, HI, Message("assistant", "So.", tool_calls=calls), Message("tool", "9:00")
    )
    assert text == (
        f'{system("S")}{ASKED}So.<function_calls>now()\nadd(y=1, x="a \\"b\\"")</function_calls>'
        "<|im_end|>\n<|im_start|>environment\n9:00<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_last_answer_is_continued() -> None:
    assert prompt("olmo3", SYSTEM, HI, Message("assistant", "So")) == f"{system('S')}{ASKED}So"
    last = Message("assistant", "So", "hm")
    assert prompt("olmo3-think", HI, last).endswith(f"{ASKED}<think>hm</think>So")
