"""The prompts of Nemotron 3.5 Nano: ChatML with tools and calls as XML (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...conversation import Conversation, Message, Tool
from ...history import last_user
from ...tool_definition import function_of, mapping, schema_of
from ..renderer import ChatOnly
from .chatml import GENERATION, turn
from .history import (
    ASSISTANT,
    TOOL,
    is_continued,
    split_system,
    thought_of,
)
from .xml_tools import other_fields, printed, tool_result_line, with_instructions, xml_call

NO_THOUGHT = "<think></think>"


class Nemotron35Renderer(ChatOnly):
    """A Renderer. There is always a system turn; thoughts before the last question are left out."""

    def render(self, conversation: Conversation) -> str:
        system, messages = split_system(conversation.messages)
        parts = [turn("system", f"{system or ''}{_tools(system or '', conversation.tools)}")]
        question = last_user(messages)
        parts += [_turn(messages, i, repeats=i >= question) for i in range(len(messages))]
        if messages and is_continued(messages, len(messages) - 1):
            return "".join(parts)
        opened = NO_THOUGHT if conversation.think is False else "<think>\n"
        return "".join([*parts, GENERATION, opened])


def _tools(system: str, tools: Sequence[Tool]) -> str:
    if not tools:
        return ""
    declared = "".join(line for tool in tools for line in _declaration(tool))
    before = "\n\n" if system else ""
    return before + with_instructions(declared)


def _declaration(tool: Tool) -> Iterator[str]:
    function = function_of(tool)
    parameters = schema_of(tool)
    yield f"\n<function>\n<name>{function.get('name', '')}</name>"
    yield from _fields(function, ("description",))
    yield "\n<parameters>"
    for name, described in mapping(parameters.get("properties")).items():
        yield f"\n<parameter>\n<name>{name}</name>"
        if "type" in mapping(described):
            yield f"\n<type>{mapping(described)['type']}</type>"
        yield from _fields(mapping(described), ("description", "enum"))
        yield from other_fields(mapping(described), ("name", "type", "description", "enum"))
        yield "\n</parameter>"
    yield from other_fields(parameters, ("type", "properties", "required"))
    yield from _fields(parameters, ("required",))
    yield "\n</parameters>"
    yield from other_fields(function, ("type", "name", "description", "parameters"))
    yield "\n</function>"


def _fields(described: Mapping[str, object], keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if key in described:
            yield f"\n<{key}>{printed(described[key]).strip()}</{key}>"


def _turn(messages: Sequence[Message], index: int, *, repeats: bool) -> str:
    message = messages[index]
    if message.role == TOOL:
        return tool_result_line(messages, index)
    if message.role != ASSISTANT:
        return turn(message.role, message.content)
    continued = is_continued(messages, index)
    thinking, content = thought_of(message)
    thought = f"<think>\n{thinking}</think>" if thinking and repeats else NO_THOUGHT
    calls = "".join(f"{xml_call(call, printed)}\n" for call in message.tool_calls)
    text = f"{thought}{content}"
    text = text if continued else text.strip()
    return turn(ASSISTANT, f"{text}\n{calls}" if calls else text, continued=continued)
