"""How tools, calls and results are worded as XML: Qwen3-Coder, Qwen 3.5, Nemotron 3 and 3.5."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

from ...conversation import Message, Tool, ToolCall
from ...tool_definition import function_of, mapping, schema_of
from .chatml import END, START
from .history import begins_results, ends_results, to_json, to_text

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


def declare(tools: Sequence[Tool]) -> str:
    """The tools, and how they are to be called."""
    declared = "".join(line for tool in tools for line in _declaration(tool))
    return with_instructions(declared)


def with_instructions(declared: str) -> str:
    """The declarations of tools, and how the tools are to be called."""
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
    yield from other_fields(parameters, ("type", "properties"))
    yield "\n</parameters>"
    yield from other_fields(function, ("type", "name", "description", "parameters"))
    yield "\n</function>"


def _parameter(described: Mapping[str, object]) -> Iterator[str]:
    if "type" in described:
        yield f"\n<type>{to_text(described['type'])}</type>"
    if described.get("description"):
        yield f"\n<description>{str(described['description']).strip()}</description>"
    yield from other_fields(described, ("name", "type", "description"))


def other_fields(described: Mapping[str, object], known: Container[str]) -> Iterator[str]:
    """What a part of a definition says beside these keys."""
    for key, value in described.items():
        if key not in known:
            yield f"\n<{key}>{printed(value)}</{key}>"


def printed(value: object) -> str:
    """As the template prints it, on which the model was trained: also `True` and `None`."""
    return to_json(value) if isinstance(value, dict | list) else str(value)


def tool_result_line(messages: Sequence[Message], index: int) -> str:
    """A result, which ends its line; those that follow one another share a turn of the user."""
    head = f"{START}user\n" if begins_results(messages, index) else ""
    tail = END if ends_results(messages, index) else ""
    return f"{head}<tool_response>\n{messages[index].content}\n</tool_response>\n{tail}"


def xml_call(call: ToolCall, word: Callable[[object], str] = to_text) -> str:
    """A call as the model writes it; `word` writes a value."""
    arguments = "".join(
        f"<parameter={name}>\n{word(value)}\n</parameter>\n"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>\n<function={call.name}>\n{arguments}</function>\n</tool_call>"
