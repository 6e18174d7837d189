"""The prompts of Qwen 3 VL: ChatML with tools as JSON (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Sequence

from ...conversation import Conversation, Message, Tool, ToolCall
from ..renderer import ChatOnly
from .chatml import EMPTY_THOUGHT, END, GENERATION, START, thought, turn
from .history import (
    ASSISTANT,
    TOOL,
    begins_results,
    ends_results,
    is_continued,
    last_query,
    split_system,
    thought_of,
    to_json,
)

TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


class Qwen3Renderer(ChatOnly):
    """A Renderer. The thinking models open a thought in the prompt, or close it if it is off."""

    def __init__(self, *, thinks: bool) -> None:
        self._thinks = thinks

    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        turns = [_system(system, conversation.tools)]
        query = last_query(messages)
        turns += [self._turn(messages, i, repeats=i > query) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(turns)
        return "".join([*turns, GENERATION, self._generation(conversation.think)])

    def _generation(self, think: bool | str | None) -> str:
        if not self._thinks:
            return ""
        return EMPTY_THOUGHT if think is False else "<think>\n"

    def _turn(self, messages: Sequence[Message], index: int, *, repeats: bool) -> str:
        message = messages[index]
        if message.role == TOOL:
            return tool_result(messages, index, message.content)
        if message.role != ASSISTANT:
            return turn(message.role, message.content)
        continued = is_continued(messages, index)
        thinking, content = thought_of(message)
        if self._thinks and repeats and (thinking or index == len(messages) - 1):
            content = thought(thinking.strip("\n")) + content.lstrip("\n")
        calls = "\n".join(map(_call, message.tool_calls))
        between = "\n" if content and calls else ""
        return turn(ASSISTANT, f"{content}{between}{calls}", continued=continued)


def tool_result(messages: Sequence[Message], index: int, content: str) -> str:
    """A result; those that follow one another share a turn of the user."""
    head = f"{START}user" if begins_results(messages, index) else ""
    tail = END if ends_results(messages, index) else ""
    return f"{head}\n<tool_response>\n{content}\n</tool_response>{tail}"


def _system(text: str | None, tools: Sequence[Tool]) -> str:
    if not tools:
        return "" if text is None else turn("system", text)
    declared = "\n".join(to_json(tool.definition) for tool in tools)
    before = "" if text is None else f"{text}\n\n"
    return turn("system", f"{before}{TOOLS_HEAD}{declared}{_TOOLS_TAIL}")


def _call(call: ToolCall) -> str:
    written = f'{{"name": "{call.name}", "arguments": {to_json(call.arguments)}}}'
    return f"<tool_call>\n{written}\n</tool_call>"
