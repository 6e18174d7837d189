"""The prompts of Qwen3-Coder and Qwen 3.5: ChatML with calls as XML (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from ...conversation import Conversation, Message, Tool, ToolCall
from ...tool_definition import function_of, mapping, schema_of
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
    to_text,
)
from .qwen3 import tool_result

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
    return turn("system", f"{before}\n\n{declare_as_xml(tools)}")


def declare_as_xml(tools: Sequence[Tool]) -> str:
    """The tools, and how they are to be called."""
    declared = "".join(line for tool in tools for line in _declaration(tool))
    return f"{_TOOLS_HEAD}{declared}{_TOOLS_TAIL}"


def _declaration(tool: Tool) -> Iterator[str]:
    function = function_of(tool)
    yield f"\n<function>\n<name>{function.get('name', '')}</name>"
    if function.get("description"):
        yield f"\n<description>{str(function['description']).strip()}</description>"
    yield "\n<parameters>"
    parameters = schema_of(tool)
    for name, described in mapping(parameters.get("properties")).items():
        yield f"\n<parameter>\n<name>{name}</name>"
        yield from _parameter(mapping(described))
        yield "\n</parameter>"
    yield from _others(parameters, ("type", "properties"))
    yield "\n</parameters>"
    yield from _others(function, ("type", "name", "description", "parameters"))
    yield "\n</function>"


def _parameter(described: Mapping[str, object]) -> Iterator[str]:
    if "type" in described:
        yield f"\n<type>{to_text(described['type'])}</type>"
    if described.get("description"):
        yield f"\n<description>{str(described['description']).strip()}</description>"
    yield from _others(described, ("name", "type", "description"))


def _others(described: Mapping[str, object], known: Container[str]) -> Iterator[str]:
    for key, value in described.items():
        if key not in known:
            text = to_json(value) if isinstance(value, dict | list) else str(value)
            yield f"\n<{key}>{text}</{key}>"


def _coder_turn(messages: Sequence[Message], index: int) -> str:
    message = messages[index]
    if message.role == TOOL:
        return coder_result(messages, index)
    if not message.tool_calls:
        return turn(message.role, message.content, continued=is_continued(messages, index))
    content = f"\n{text}\n" if (text := message.content.strip()) else ""
    calls = "".join(f"\n{xml_call(call)}" for call in message.tool_calls)
    return f"{START}{message.role}{content}{calls}{END}"


def coder_result(messages: Sequence[Message], index: int) -> str:
    """A result, which ends its line; those that follow one another share a turn of the user."""
    head = f"{START}user\n" if begins_results(messages, index) else ""
    tail = END if ends_results(messages, index) else ""
    return f"{head}<tool_response>\n{messages[index].content}\n</tool_response>\n{tail}"


def _qwen35_system(text: str | None, tools: Sequence[Tool]) -> str:
    if not tools:
        return "" if text is None else turn("system", text.strip())
    declared = "".join(f"\n{to_json(tool.definition)}" for tool in tools)
    after = f"\n\n{text.strip()}" if text and text.strip() else ""
    return turn("system", f"{_TOOLS_HEAD}{declared}{_TOOLS_TAIL}{after}")


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


def xml_call(call: ToolCall) -> str:
    """A call, as the model writes it."""
    arguments = "".join(
        f"<parameter={name}>\n{to_text(value)}\n</parameter>\n"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>\n<function={call.name}>\n{arguments}</function>\n</tool_call>"
