"""The prompts of GLM 4.7 and GLM-OCR (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Sequence

from ...conversation import Conversation, Message, Tool, ToolCall
from ...history import last_user
from ..renderer import ChatOnly
from .history import (
    ASSISTANT,
    SYSTEM_ROLES,
    TOOL,
    begins_results,
    is_continued,
    thought_of,
    to_json,
    to_text,
)
from .qwen3 import TOOLS_HEAD

_START = "[gMASK]<sop>"
_CALL_FORMAT = (
    "<tool_call>{function-name}<arg_key>{arg-key-1}</arg_key><arg_value>{arg-value-1}</arg_value>"
    "<arg_key>{arg-key-2}</arg_key><arg_value>{arg-value-2}</arg_value>...</tool_call>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, output the function name and arguments within the "
    f"following XML format:\n{_CALL_FORMAT}"
)


class GlmRenderer(ChatOnly):
    """A Renderer for GLM 4.7: turns have no end, and each answer begins with a thought's end."""

    def render(self, conversation: Conversation) -> str:
        messages = conversation.messages
        turns = [_START, _tools(conversation.tools)]
        turns += [_glm_turn(messages, i) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(turns)
        opened = "</think>" if conversation.think is False else "<think>"
        return "".join([*turns, "<|assistant|>", opened])


class GlmOcrRenderer(ChatOnly):
    """A Renderer for GLM-OCR, which knows no tools. Each header ends with a line break."""

    def render(self, conversation: Conversation) -> str:
        messages = conversation.messages
        turns = [_ocr_turn(message) for message in messages]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join([_START, *turns])
        closed = "<think></think>\n" if conversation.think is False else ""
        return "".join([_START, *turns, f"<|assistant|>\n{closed}"])


def _tools(tools: Sequence[Tool]) -> str:
    if not tools:
        return ""
    declared = "\n".join(to_json(tool.definition) for tool in tools)
    return f"<|system|>\n{TOOLS_HEAD}{declared}{_TOOLS_TAIL}"


def _glm_turn(messages: Sequence[Message], index: int) -> str:
    message = messages[index]
    if message.role == TOOL:
        head = "<|observation|>" if begins_results(messages, index) else ""
        return f"{head}<tool_response>{message.content}</tool_response>"
    if message.role in SYSTEM_ROLES:
        return f"<|system|>{message.content}"
    if message.role != ASSISTANT:
        return f"<|{message.role}|>{message.content}"
    thinking, content = thought_of(message)
    keeps = index > last_user(messages) and thinking
    before = f"<think>{thinking.strip()}</think>" if keeps else "</think>"
    content = content.lstrip() if is_continued(messages, index) else content.strip()
    return f"<|assistant|>{before}{content}{''.join(map(_glm_call, message.tool_calls))}"


def _glm_call(call: ToolCall) -> str:
    arguments = "".join(
        f"<arg_key>{name}</arg_key><arg_value>{to_text(value)}</arg_value>"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>{call.name}{arguments}</tool_call>"


def _ocr_turn(message: Message) -> str:
    role = "system" if message.role in SYSTEM_ROLES else message.role
    if role != ASSISTANT:
        return f"<|{role}|>\n{message.content}"
    thinking, content = thought_of(message)
    return f"<|assistant|>\n<think>{thinking.strip()}</think>\n{content}"
