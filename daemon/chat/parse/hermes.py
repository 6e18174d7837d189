"""Tool calls as JSON between `<tool_call>` tags: Hermes, Qwen 2.5, Qwen 3 (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..conversation import Tool
from .call_blocks import BlockFormat, CallBlock, CallBlockParser, SplitCalls
from .call_grammar import object_grammar
from .parser import OutputParser, OutputStart, ParserFamily
from .thinking import CLOSE, OPEN, thinking_then
from .tool_calls import split_json_calls
from .values import inside_string

CALL, CALL_END = "<tool_call>", "</tool_call>"
ENDS_A_VALUE = (
    '"',
    "'",
    "}",
    "]",
)  # the end of a call that was cut off, if its last value is whole


def read_json(text: str) -> SplitCalls:
    """The calls of a block, as split_json_calls knows them; none if it holds anything else."""
    calls, rest = split_json_calls(text, cut_strings=False)
    return ([], text) if rest else (calls, "")


def read_cut_json(text: str) -> SplitCalls:
    """As read_json. Cut off within a value it is no call, since half a value may do harm."""
    return read_json(text) if text.rstrip().endswith(ENDS_A_VALUE) else ([], text)


def make_calls_parser(
    format_of: Callable[[Sequence[Tool]], BlockFormat], *, thinks: bool
) -> Callable[[OutputStart], OutputParser]:
    """How a family with blocks of calls begins an output.

    A call in a thought ends it: a model in doubt about its format may forget the closing tag.
    """

    def make(start: OutputStart) -> OutputParser:
        calls = format_of(start.tools)
        inner = CallBlockParser(calls)
        if not thinks:
            return inner
        interrupts = calls.openings[:1] if start.tools else ()
        return thinking_then(start, inner, interrupts=interrupts, trims=True)

    return make


HERMES_FORMAT = BlockFormat(
    (
        CallBlock(
            CALL,
            CALL_END,
            read_json,
            read_cut_json,
            ended_by=(CALL,),
            is_open=inside_string,
        ),
    ),
    strays=(CLOSE,),
)
TAGS = (OPEN, CLOSE, CALL, CALL_END)
HERMES_FAMILY = ParserFamily(
    make_calls_parser(lambda _tools: HERMES_FORMAT, thinks=True),
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
