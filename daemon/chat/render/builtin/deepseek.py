"""The prompts of DeepSeek V3.1 (CONTRACT 8.8, and the template and card that come with it)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...conversation import Conversation, Message, Tool
from ...tool_definition import function_of
from ..renderer import ChatOnly
from .history import ASSISTANT, SYSTEM_ROLES, TOOL, USER, is_continued, to_json

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER_HEAD, ASSISTANT_HEAD = "<｜User｜>", "<｜Assistant｜>"
OPEN, CLOSE = "<think>", "</think>"
CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
RESULT, RESULT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"

_TOOLS_HEAD = "## Tools\nYou have access to the following tools:\n"
_TOOLS_TAIL = f"""
IMPORTANT: ALWAYS adhere to this exact format for tool use:
{CALLS}{CALL}tool_call_name{SEPARATOR}tool_call_arguments{CALL_END}\
{{additional_tool_calls}}{CALLS_END}

Where:
- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces"""


class DeepSeek31Renderer(ChatOnly):
    """A Renderer. It writes the BOS token; thoughts of earlier turns are left out."""

    def render(self, conversation: Conversation) -> str:
        systems = [m.content for m in conversation.messages if m.role in SYSTEM_ROLES]
        turns = [m for m in conversation.messages if m.role not in SYSTEM_ROLES]
        parts = [BOS, _system("\n\n".join(systems), conversation.tools)]
        parts += _turns(turns, think=bool(conversation.think))
        return "".join(parts)


def _system(text: str, tools: Sequence[Tool]) -> str:
    if not tools:
        return text
    return f"{text}\n\n{_TOOLS_HEAD}{''.join(map(_declaration, tools))}{_TOOLS_TAIL}"


def _declaration(tool: Tool) -> str:
    described = function_of(tool)
    description = described.get("description") or ""
    parameters = to_json(described.get("parameters") or {})
    head = f"\n### {described.get('name', '')}\nDescription: {description}"
    return f"{head}\n\nParameters: {parameters}\n"


def _turns(messages: Sequence[Message], *, think: bool) -> Iterator[str]:
    """The turns. An answer to a tool result goes on in the turn that has called the tool."""
    after_user = False
    for index, message in enumerate(messages):
        if message.role == USER:
            yield f"{USER_HEAD}{message.content}"
        elif message.role == TOOL:
            yield f"{RESULT}{message.content}{RESULT_END}"
        elif message.role == ASSISTANT:
            continued = is_continued(messages, index)
            yield ASSISTANT_HEAD if after_user else ""
            yield _thought(message, kept=continued and think) if after_user else ""
            yield _answer(message) + ("" if continued else EOS)
        after_user = message.role == USER
    if after_user:
        yield f"{ASSISTANT_HEAD}{OPEN if think else CLOSE}"


def _thought(message: Message, *, kept: bool) -> str:
    return f"{OPEN}{message.thinking}{CLOSE}" if kept and message.thinking else CLOSE


def _answer(message: Message) -> str:
    content = message.content.partition(CLOSE)[2] if CLOSE in message.content else message.content
    if not message.tool_calls:
        return content
    calls = (
        f"{CALL}{call.name}{SEPARATOR}{to_json(call.arguments)}{CALL_END}"
        for call in message.tool_calls
    )
    return f"{content}{CALLS}{''.join(calls)}{CALLS_END}"
