"""The prompts of Nemotron 3.5 Nano: ChatML with tools and calls as XML (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from ...conversation import Conversation, Message, Tool, ToolCall
from ...history import last_user
from ...tool_definition import function_of, mapping, schema_of
from ..renderer import ChatOnly
from .chatml import END, GENERATION, START, turn
from .history import (
    ASSISTANT,
    TOOL,
    begins_results,
    ends_results,
    is_continued,
    split_system,
    thought_of,
    to_json,
)

NO_THOUGHT = "<think></think>"

_TOOLS_HEAD = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
_TOOLS_TAIL = """
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must \
be nested within <tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the \
function call, but NOT after
- If there is no function call available, answer the question like normal with your current \
knowledge and do not tell the user about function calls
</IMPORTANT>"""


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
    return f"{before}{_TOOLS_HEAD}{declared}{_TOOLS_TAIL}"


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
        yield from _others(mapping(described), ("name", "type", "description", "enum"))
        yield "\n</parameter>"
    yield from _others(parameters, ("type", "properties", "required"))
    yield from _fields(parameters, ("required",))
    yield "\n</parameters>"
    yield from _others(function, ("type", "name", "description", "parameters"))
    yield "\n</function>"


def _fields(described: Mapping[str, object], keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if key in described:
            yield f"\n<{key}>{_text(described[key]).strip()}</{key}>"


def _others(described: Mapping[str, object], known: Container[str]) -> Iterator[str]:
    for key, value in described.items():
        if key not in known:
            yield f"\n<{key}>{_text(value)}</{key}>"


def _text(value: object) -> str:
    """As the template prints it, on which the model was trained: also `True` and `None`."""
    return to_json(value) if isinstance(value, dict | list) else str(value)


def _turn(messages: Sequence[Message], index: int, *, repeats: bool) -> str:
    message = messages[index]
    if message.role == TOOL:
        head = f"{START}user\n" if begins_results(messages, index) else ""
        tail = END if ends_results(messages, index) else ""
        return f"{head}<tool_response>\n{message.content}\n</tool_response>\n{tail}"
    if message.role != ASSISTANT:
        return turn(message.role, message.content)
    continued = is_continued(messages, index)
    thinking, content = thought_of(message)
    thought = f"<think>\n{thinking}</think>" if thinking and repeats else NO_THOUGHT
    calls = "".join(map(_call, message.tool_calls))
    text = f"{thought}{content}"
    text = text if continued else text.strip()
    return turn(ASSISTANT, f"{text}\n{calls}" if calls else text, continued=continued)


def _call(call: ToolCall) -> str:
    arguments = "".join(
        f"<parameter={name}>\n{_text(value)}\n</parameter>\n"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>\n<function={call.name}>\n{arguments}</function>\n</tool_call>\n"
