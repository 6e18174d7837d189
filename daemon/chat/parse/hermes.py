"""Tool calls as JSON between `<tool_call>` tags: Hermes, Qwen 2.5, Qwen 3 (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..conversation import Tool, ToolCall
from .call_blocks import BlockSyntax, CallBlocksParser
from .call_grammar import object_grammar
from .parser import OutputParser, OutputStart, ParserFamily
from .thinking import CLOSE, OPEN, thinking_then
from .tool_calls import split_json_calls
from .values import inside_string

CALL, CALL_END = "<tool_call>", "</tool_call>"
ENDS_A_VALUE = "\"'}]"  # the end of a call that was cut off, if its last value is whole


def read_json_calls(block: str, ended: bool) -> Sequence[ToolCall]:
    """The calls in a block, as split_json_calls knows them; none if it holds anything else.

    A block that was cut off within a value is no call, since half a value may do harm.
    """
    if not ended and block.rstrip()[-1:] not in ENDS_A_VALUE:
        return ()
    calls, rest = split_json_calls(block, cut_strings=False)
    return () if rest else calls


def hermes_syntax(_tools: Sequence[Tool]) -> BlockSyntax:
    """The marks of these calls; the tools do not matter, as JSON has types of its own."""
    return BlockSyntax(CALL, CALL_END, read_json_calls, inside_string, strays=(CLOSE,))


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
    call_grammar=object_grammar(
        markers=(CALL, CALL_END), each=(f"{CALL}\n", f"\n{CALL_END}"), between="\n"
    ),
)

# The instruct models do not think by themselves, so they have no such capability; a template may
# still let them.
QWEN3_FAMILY = replace(HERMES_FAMILY, thinks=False)
