"""The prompts of Nemotron 3 Nano: ChatML with tools and calls as XML (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Sequence

from ...conversation import Conversation, Message, Tool
from ...history import last_user
from ..renderer import ChatOnly
from .chatml import GENERATION, turn
from .history import ASSISTANT, TOOL, is_continued, split_system, thought_of
from .xml_tools import declare, tool_result_line, xml_call

_NO_THOUGHT = "<think></think>"


class Nemotron3Renderer(ChatOnly):
    """A Renderer. There is always a system turn, and each answer has a thought, if an empty one."""

    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        turns = [_nemotron_system(system or "", conversation.tools)]
        turns += [_nemotron_turn(messages, i) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(turns)
        opened = _NO_THOUGHT if conversation.think is False else "<think>\n"
        return "".join([*turns, GENERATION, opened])


def _nemotron_system(text: str, tools: Sequence[Tool]) -> str:
    declared = declare(tools) if tools else ""
    return turn("system", f"{text}\n\n{declared}" if text and declared else text + declared)


def _nemotron_turn(messages: Sequence[Message], index: int) -> str:
    message = messages[index]
    if message.role == TOOL:
        return tool_result_line(messages, index)
    if message.role != ASSISTANT:
        return turn(message.role, message.content)
    continued = is_continued(messages, index)
    thinking, content = thought_of(message)
    before = _NO_THOUGHT
    if thinking.strip() and index > last_user(messages):
        before = f"<think>\n{thinking}\n</think>\n"
    elif thinking.strip() and not message.tool_calls:
        before = f"{_NO_THOUGHT}\n"  # what is left of a thought that is not repeated
    text = f"{before}{content.lstrip()}" if continued else f"{before}{content.strip()}".strip()
    calls = "".join(f"{xml_call(call)}\n" for call in message.tool_calls)
    return turn(ASSISTANT, f"{text}\n{calls}" if calls else text, continued=continued)
