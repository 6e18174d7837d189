"""Tool calls as `<function=NAME>` with `<parameter=K>`: Qwen3-Coder, Qwen 3.5, Nemotron 3."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import name_of, parameters_of, schema_of
from .call_blocks import BlockSyntax
from .call_grammar import in_order, join_calls, literal, text_value
from .coercion import coerce
from .hermes import CALL, CALL_END, TAGS, make_calls_parser, read_json_calls
from .parser import ParserFamily
from .thinking import CLOSE, OPEN

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
VALUE_END = f"\n{PARAMETER_END}\n"  # as the format has it
_PART = re.compile(r"<(function|parameter)=([^>\n]+)>|</function>")
_NEXT = re.compile(r"\n[ \t]*<parameter=")
_UNCLOSED = re.compile(r"\n[ \t]*(?:<parameter=|</function>)|\Z")


def xml_syntax(tools: Sequence[Tool]) -> BlockSyntax:
    """The marks of these calls. A call without its `<tool_call>` counts if its tool is known."""

    def read(block: str, ended: bool) -> Sequence[ToolCall]:
        return _read_xml_calls(block, tools, ended) or read_json_calls(block, ended)

    return BlockSyntax(
        CALL,
        CALL_END,
        read,
        _in_value,
        bare=(FUNCTION, FUNCTION_END) if tools else None,
        known=frozenset(map(name_of, tools)),
        strays=(FUNCTION_END, CLOSE),
    )


def _in_value(block: str) -> bool:
    return block.rfind(PARAMETER) > block.rfind(PARAMETER_END)


def _read_xml_calls(block: str, tools: Sequence[Tool], ended: bool) -> Sequence[ToolCall]:
    if not ended and not block.rstrip().endswith((PARAMETER_END, FUNCTION_END)):
        return ()  # the output was cut off: half a value may do harm
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


QWEN3_CODER_FAMILY = ParserFamily(
    make_calls_parser(xml_syntax, thinks=False),
    markers=(CALL, CALL_END),
    openings=(CALL, FUNCTION),
    calls=True,
    call_grammar=xml_grammar,
)
QWEN35_FAMILY = ParserFamily(
    make_calls_parser(xml_syntax, thinks=True),
    markers=TAGS,
    openings=(OPEN, CALL, FUNCTION),
    thinks=True,
    calls=True,
    call_grammar=xml_grammar,
)
