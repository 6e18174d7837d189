"""The prompts of LFM2 and LFM2.5: ChatML with calls in Python's syntax (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Sequence

from ...conversation import Conversation, Message, Tool, ToolCall
from ...history import last_user
from ..renderer import ChatOnly
from .chatml import GENERATION, turn
from .history import ASSISTANT, is_continued, split_system, thought_of, to_json

_BOS = "<|startoftext|>"


class Lfm2Renderer(ChatOnly):
    """A Renderer. The model opens a thought itself, so the prompt is the same without thinking."""

    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        turns = [_BOS, _lfm2_system(system, conversation.tools)]
        turns += [_lfm2_turn(messages, i) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(turns)
        return "".join([*turns, GENERATION])


def _lfm2_system(text: str | None, tools: Sequence[Tool]) -> str:
    declared = ", ".join(to_json(tool.definition) for tool in tools)
    listed = f"List of tools: [{declared}]" if tools else ""
    joined = "\n".join(part for part in (text, listed) if part)
    return turn("system", joined) if joined else ""


def _lfm2_turn(messages: Sequence[Message], index: int) -> str:
    message = messages[index]
    if message.role != ASSISTANT:
        return turn(message.role, message.content)
    thinking, content = thought_of(message)
    keeps = index > last_user(messages) and thinking
    before = f"<think>{thinking}</think>" if keeps else ""
    calls = ", ".join(map(_python_call, message.tool_calls))
    after = f"<|tool_call_start|>[{calls}]<|tool_call_end|>" if calls else ""
    return turn(ASSISTANT, f"{before}{content}{after}", continued=is_continued(messages, index))


def _python_call(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={_literal(value)}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"


def _literal(value: object) -> str:
    """A value in Python's syntax; an object as JSON, as in the models' own templates."""
    return to_json(value) if isinstance(value, dict) else repr(value)
