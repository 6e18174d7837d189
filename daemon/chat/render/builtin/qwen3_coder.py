"""The prompts of Qwen3-Coder and Qwen 3.5: ChatML with calls as XML (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Sequence

from ...conversation import Conversation, Message, Tool
from ..renderer import ChatOnly
from .chatml import EMPTY_THOUGHT, END, GENERATION, START, thought, turn
from .history import (
    ASSISTANT,
    TOOL,
    is_continued,
    last_query,
    split_system,
    thought_of,
    to_json,
)
from .qwen3 import tool_result
from .xml_tools import declare, tool_result_line, with_instructions, xml_call

_DEFAULT_SYSTEM = (  # of Qwen3-Coder, if there are tools but no system message
    "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks."
)


class Qwen3CoderRenderer(ChatOnly):
    """A Renderer. The models do not think; tools are declared as XML."""

    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        turns = [_coder_system(system, conversation.tools)]
        turns += [_coder_turn(messages, i) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(turns)
        return "".join([*turns, GENERATION])


class Qwen35Renderer(ChatOnly):
    """A Renderer. A thought is opened in the prompt, or closed at once if thinking is off."""

    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        turns = [_qwen35_system(system, conversation.tools)]
        query = last_query(messages)
        turns += [_qwen35_turn(messages, i, repeats=i > query) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(turns)
        opened = EMPTY_THOUGHT if conversation.think is False else "<think>\n"
        return "".join([*turns, GENERATION, opened])


def _coder_system(text: str | None, tools: Sequence[Tool]) -> str:
    if not tools:
        return "" if text is None else turn("system", text)
    before = _DEFAULT_SYSTEM if text is None else text
    return turn("system", f"{before}\n\n{declare(tools)}")


def _coder_turn(messages: Sequence[Message], index: int) -> str:
    message = messages[index]
    if message.role == TOOL:
        return tool_result_line(messages, index)
    if not message.tool_calls:
        return turn(message.role, message.content, continued=is_continued(messages, index))
    content = f"\n{text}\n" if (text := message.content.strip()) else ""
    calls = "".join(f"\n{xml_call(call)}" for call in message.tool_calls)
    return f"{START}{message.role}{content}{calls}{END}"


def _qwen35_system(text: str | None, tools: Sequence[Tool]) -> str:
    if not tools:
        return "" if text is None else turn("system", text.strip())
    declared = "".join(f"\n{to_json(tool.definition)}" for tool in tools)
    after = f"\n\n{text.strip()}" if text and text.strip() else ""
    return turn("system", f"{with_instructions(declared)}{after}")


def _qwen35_turn(messages: Sequence[Message], index: int, *, repeats: bool) -> str:
    message = messages[index]
    if message.role == TOOL:
        return tool_result(messages, index, message.content.strip())
    if message.role != ASSISTANT:
        return turn(message.role, message.content.strip())
    continued = is_continued(messages, index)
    thinking, content = thought_of(message)
    content = content.lstrip() if continued else content.strip()
    calls = "\n".join(map(xml_call, message.tool_calls))
    between = "\n\n" if content and calls else ""
    before = thought(thinking.strip()) if repeats else ""
    return turn(ASSISTANT, f"{before}{content}{between}{calls}", continued=continued)
