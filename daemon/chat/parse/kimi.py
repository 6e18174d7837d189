"""How do the Kimi K2 models write tool calls?"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import name_of
from .call_blocks import BlockFormat, CallBlock, SplitCalls, block_family, read_pieces
from .call_grammar import NUMBER, arguments_value, join_calls, literal
from .tool_calls import read_arguments

ALL_BEGIN, ALL_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
BEGIN, END = "<|tool_call_begin|>", "<|tool_call_end|>"
ARGUMENTS = "<|tool_call_argument_begin|>"

# A call has an id in place of a name: `functions.NAME:NUMBER`, the number running on over the chat.
_ID = re.compile(r"(?:functions\.)?(?P<name>.+?)(?::\d+)?")


def _call(text: str) -> ToolCall | None:
    id_, marker, written = text.partition(ARGUMENTS)
    parts = _ID.fullmatch(id_.strip())
    arguments = read_arguments(written)
    if parts is None or not marker or arguments is None:
        return None
    return ToolCall(parts["name"], arguments, id_.strip() if ":" in id_ else "")


def _read_block(text: str) -> SplitCalls:
    return read_pieces(text, BEGIN, END, _call)


def _grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    markers = (ALL_BEGIN, BEGIN, ARGUMENTS, END, ALL_END)
    calls = []
    for tool in tools:
        head = literal(f"{BEGIN}functions.{name_of(tool)}:", markers, special)
        middle, end = (literal(marker, markers, special) for marker in (ARGUMENTS, END))
        calls.append(f"{head} {NUMBER} {middle} {arguments_value(tool)} {end}")
    return join_calls(calls, markers, special, around=(ALL_BEGIN, ALL_END))


KIMI_FAMILY = block_family(
    BlockFormat((CallBlock(ALL_BEGIN, ALL_END, _read_block),), inner=(BEGIN, ARGUMENTS, END)),
    thinks=True,
    grammar=_grammar,
)
