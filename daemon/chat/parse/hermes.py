"""Tool calls as JSON between `<tool_call>` tags: Hermes, Qwen 2.5, Qwen 3 (CONTRACT 8.8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

from ..conversation import Tool
from ..tool_definition import function_of
from .call_blocks import BlockSyntax, Call, CallBlocksParser
from .call_grammar import join_calls, json_value, literal
from .literals import LiteralReader, Unreadable, inside_string, read_value
from .parser import OutputParser, OutputStart, ParserFamily
from .thinking import CLOSE, OPEN, thinking_then

CALL, CALL_END = "<tool_call>", "</tool_call>"
ENDS_A_VALUE = "\"'}]"  # the end of a call that was cut off, if its last value is whole


def read_json_calls(block: str, ended: bool) -> Sequence[Call]:
    """The calls in a block: {"name", "arguments"}, several of them, or a list of them.

    Broken JSON is repaired (chat.parse.literals). A block that was cut off within a value is no
    call, since half a value may do harm.
    """
    if not ended and block.rstrip()[-1:] not in ENDS_A_VALUE:
        return ()
    try:
        return [_call_of(value) for value in _values(block)]
    except Unreadable:
        return ()


def _values(block: str) -> Sequence[object]:
    """Raises Unreadable."""
    try:
        value = read_value(block)
    except Unreadable:
        reader, values = LiteralReader(block), list[object]()
        while reader.peek():
            values.append(reader.value())
            reader.accept(",")
        return values
    return value if isinstance(value, list) else [value]


def _call_of(value: object) -> Call:
    """Raises Unreadable if the value is no call."""
    if not isinstance(value, dict):
        raise Unreadable
    function = value.get("function")
    described = function if isinstance(function, dict) else value
    name = described.get("name", function)
    if not isinstance(name, str) or not name:
        raise Unreadable
    return name, _arguments(described)


def _arguments(described: Mapping[str, object]) -> dict[str, object]:
    """The arguments of a call; a model may call them parameters, or write them as a string."""
    written = described.get("arguments", described.get("parameters"))
    value = read_value(written) if isinstance(written, str) and written.strip() else written
    if not value:
        return {}
    if not isinstance(value, dict):
        raise Unreadable
    return value


def hermes_syntax(_tools: Sequence[Tool]) -> BlockSyntax:
    """The marks of these calls; the tools do not matter, as JSON has types of its own."""
    return BlockSyntax(CALL, CALL_END, read_json_calls, inside_string, strays=(CLOSE,))


def hermes_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    """A Lark grammar of calls of these tools (ParserFamily.call_grammar)."""
    calls = []
    for tool in tools:
        function = function_of(tool)
        name = json.dumps(function.get("name"), ensure_ascii=False)
        head, tail = literal(f'{{"name": {name}, "arguments": '), literal("}")
        calls.append(f"{head} {json_value(function.get('parameters'))} {tail}")
    return join_calls(calls, f"{CALL}\n", f"\n{CALL_END}", (CALL, CALL_END), special)


def make_calls_parser(
    syntax: Callable[[Sequence[Tool]], BlockSyntax], *, thinks: bool
) -> Callable[[OutputStart], OutputParser]:
    """How a family with blocks of calls begins an output.

    A call in a thought ends it: a model in doubt about its format may forget the closing tag.
    """

    def make(start: OutputStart) -> OutputParser:
        blocks = syntax(start.tools)
        inner = CallBlocksParser(blocks)
        if not thinks:
            return inner
        return thinking_then(
            start, inner, interrupts=(blocks.opening,) if start.tools else (), trims=True
        )

    return make


TAGS = (OPEN, CLOSE, CALL, CALL_END)
HERMES_FAMILY = ParserFamily(
    make_calls_parser(hermes_syntax, thinks=True),
    markers=TAGS,
    openings=(OPEN, CALL),
    thinks=True,
    calls=True,
    call_grammar=hermes_grammar,
)

# The instruct models do not think by themselves, so they have no such capability; a template may
# still let them.
QWEN3_FAMILY = replace(HERMES_FAMILY, thinks=False)
