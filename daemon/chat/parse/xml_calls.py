"""Tool calls as `<function=NAME>` with `<parameter=K>`: Qwen3-Coder, Qwen 3.5, Nemotron 3."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import name_of, parameters_of, schema_of
from .call_blocks import BlockFormat, CallBlock, SplitCalls
from .call_grammar import in_order, join_calls, literal, text_value
from .coercion import coerce
from .hermes import CALL, CALL_END, read_cut_json, read_json, tagged_family
from .thinking import CLOSE

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
VALUE_END = f"\n{PARAMETER_END}\n"  # as the format has it
_PART = re.compile(r"<(function|parameter)=([^>\n]+)>|</function>")
_NEXT = re.compile(r"\n[ \t]*<parameter=")
_UNCLOSED = re.compile(r"\n[ \t]*(?:<parameter=|</function>)|\Z")


def xml_format(tools: Sequence[Tool]) -> BlockFormat:
    """The marks of these calls. A call without its `<tool_call>` counts if its tool is known."""
    known = set(map(name_of, tools))

    def read(text: str) -> SplitCalls:
        calls = _read_calls(text, tools)
        return (calls, "") if calls else read_json(text)

    def read_cut(text: str) -> SplitCalls:
        """Half a value may do harm."""
        is_whole = text.rstrip().endswith((PARAMETER_END, FUNCTION_END))
        return read(text) if is_whole else read_cut_json(text)

    def of_known(reader: Callable[[str], SplitCalls]) -> Callable[[str], SplitCalls]:
        def read_known(text: str) -> SplitCalls:
            calls, rest = reader(text)
            return (calls, rest) if {call.name for call in calls} <= known else ([], text)

        return read_known

    tagged = CallBlock(CALL, CALL_END, read, read_cut, ended_by=(CALL,), is_open=_in_value)
    bare = CallBlock(
        FUNCTION,
        FUNCTION_END,
        of_known(read),
        of_known(read_cut),
        ended_by=(CALL,),
        is_open=_in_value,
        keeps_markers=True,
    )
    return BlockFormat((tagged, bare) if tools else (tagged,), strays=(FUNCTION_END, CLOSE))


def _in_value(text: str) -> bool:
    return text.rfind(PARAMETER) > text.rfind(PARAMETER_END)


def _read_calls(block: str, tools: Sequence[Tool]) -> Sequence[ToolCall]:
    calls, name, at = list[ToolCall](), "", 0
    while part := _PART.search(block, at):
        kind, at = part[1], part.end()
        if kind == "function":
            name = part[2].strip().strip("\"'")
            calls.append(ToolCall(name, {}))
        elif kind == "parameter" and calls:
            key, value = part[2].strip().strip("\"'"), block[at : (at := _value_end(block, at))]
            calls[-1].arguments[key] = coerce(_inner(value), key, parameters_of(name, tools))
    return calls


def _value_end(block: str, start: int) -> int:
    """Where a value ends: at its closing tag, or, if a model forgot that, before the next part."""
    closing = block.find(PARAMETER_END, start)
    if closing >= 0 and not _NEXT.search(block, start, closing):
        return closing
    unclosed = _UNCLOSED.search(block, start)
    return unclosed.start() if unclosed else len(block)


def _inner(value: str) -> str:
    """The value without the one line break that the format puts on each side of it."""
    return value.removeprefix("\n").removesuffix("\n")


def xml_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    """A Lark grammar of calls of these tools (ParserFamily.call_grammar).

    Required parameters are demanded; all come in the order of the schema.
    """
    return join_calls(
        [_call_grammar(tool) for tool in tools],
        (CALL, CALL_END),
        special,
        each=(f"{CALL}\n", f"\n{CALL_END}"),
        between="\n",
        text_end=VALUE_END,
    )


def _call_grammar(tool: Tool) -> str:
    schema = schema_of(tool)

    def word(name: str, described: object) -> str:
        head = f"{PARAMETER}{name}>\n"
        return f"{literal(head)} {text_value(described, schema, VALUE_END)}"

    head = literal(f"{FUNCTION}{name_of(tool)}>\n")
    return " ".join([head, *in_order(schema, word), literal(FUNCTION_END)])


QWEN3_CODER_FAMILY = tagged_family(
    xml_format, thinks=False, grammar=xml_grammar, openings=(FUNCTION,)
)
QWEN35_FAMILY = tagged_family(xml_format, thinks=True, grammar=xml_grammar, openings=(FUNCTION,))
