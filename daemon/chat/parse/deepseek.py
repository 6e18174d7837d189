"""How do the DeepSeek models (V3, V3.1, R1) and Cogito write tool calls? (CONTRACT 8.8)"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import name_of
from .call_blocks import BlockFormat, CallBlock, SplitCalls, block_family, read_pieces
from .call_grammar import arguments_value, join_calls, literal
from .tool_calls import read_arguments

ALL_BEGIN, ALL_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
BEGIN, SEPARATOR, END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
# The small distilled models have no tokens for the markers, and spell them in these ways.
SPELLINGS = ("<｜tool_calls_begin｜>", "<｜tool calls begin｜>", "<｜tool▁calls｜>")

# V3 and R1 write a type before the name and a fence around the arguments; V3.1 does not.
_CALL = re.compile(
    rf"\s*(?:function{SEPARATOR}(?=[^{{\s]))?"
    rf"(?P<name>[^\s{{<]+)\s*(?:{SEPARATOR})?\s*(?:```(?:json)?)?(?P<arguments>\s*\{{.*)",
    re.DOTALL,
)


def _call(text: str) -> ToolCall | None:
    parts = _CALL.fullmatch(text)
    if parts is None:
        return None
    arguments = read_arguments(parts["arguments"].rstrip().removesuffix("```"))
    return None if arguments is None else ToolCall(parts["name"], arguments)


def _read_block(text: str) -> SplitCalls:
    return read_pieces(text, BEGIN, END, _call)


def _grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    """As V3.1 writes calls, which all versions understand."""
    markers = (ALL_BEGIN, BEGIN, SEPARATOR, END, ALL_END)
    calls = []
    for tool in tools:
        head = literal(f"{BEGIN}{name_of(tool)}{SEPARATOR}", markers, special)
        calls.append(f"{head} {arguments_value(tool)} {literal(END, markers, special)}")
    return join_calls(calls, markers, special, around=(ALL_BEGIN, ALL_END))


DEEPSEEK_FAMILY = block_family(
    BlockFormat(
        tuple(CallBlock(o, ALL_END, _read_block) for o in (ALL_BEGIN, *SPELLINGS, BEGIN)),
        inner=(SEPARATOR, END),
    ),
    thinks=True,
    grammar=_grammar,
)
