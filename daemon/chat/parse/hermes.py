"""Tool calls as JSON between `<tool_call>` tags: Hermes, Qwen 2.5, Qwen 3 (CONTRACT 8.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..conversation import Tool
from .call_blocks import BlockFormat, CallBlock, CallBlockParser, SplitCalls
from .call_grammar import CallGrammar, object_grammar
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


def tagged_family(
    format_of: Callable[[Sequence[Tool]], BlockFormat],
    *,
    thinks: bool,
    grammar: CallGrammar,
    inner: tuple[str, ...] = (),
    openings: tuple[str, ...] = (),
) -> ParserFamily:
    """The family of a format of blocks that the tools of the request guide.

    `inner` are markers inside of blocks that stay in the content if a block holds no call, and
    `openings` further texts that may begin a call. A call in a thought ends it: a model in doubt
    about its format may forget the closing tag.
    """

    def make(start: OutputStart) -> OutputParser:
        calls = format_of(start.tools)
        parser = CallBlockParser(calls)
        if not thinks:
            return parser
        interrupts = calls.openings[:1] if start.tools else ()
        return thinking_then(start, parser, interrupts=interrupts, trims=True)

    calls = format_of(())
    return ParserFamily(
        make,
        markers=(*((OPEN, CLOSE) if thinks else ()), *calls.markers, *inner),
        openings=(*((OPEN,) if thinks else ()), *calls.openings, *openings),
        thinks=thinks,
        calls=True,
        call_grammar=grammar,
    )


_BLOCK = CallBlock(
    CALL, CALL_END, read_json, read_cut_json, ended_by=(CALL,), is_open=inside_string
)
HERMES_FAMILY = tagged_family(
    lambda _tools: BlockFormat((_BLOCK,), strays=(CLOSE,)),
    thinks=True,
    grammar=object_grammar(
        markers=(CALL, CALL_END), each=(f"{CALL}\n", f"\n{CALL_END}"), between="\n"
    ),
)
# The instruct models do not think by themselves, so they have no such capability; a template may
# still let them.
QWEN3_FAMILY = replace(HERMES_FAMILY, thinks=False)
