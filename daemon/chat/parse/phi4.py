"""How do the Phi-4 models write tool calls?"""

from __future__ import annotations

from .call_blocks import BlockFormat, CallBlock, SplitCalls, block_family
from .call_grammar import object_grammar
from .tool_calls import split_json_calls

BEGIN, END = "<|tool_call|>", "<|/tool_call|>"
WORD = "functools"  # Phi-4-mini often writes it before the array instead of the markers


def _read_array(text: str) -> SplitCalls:
    calls, rest = split_json_calls(text.removeprefix(WORD))
    return (calls, rest) if calls else ([], text)


PHI4_FAMILY = block_family(
    BlockFormat(
        (
            CallBlock(BEGIN, END),
            CallBlock(f"{WORD}[", read=_read_array, keeps_markers=True, first=True),
        ),
    ),
    thinks=True,
    grammar=object_grammar(around=(f"{BEGIN}[", f"]{END}"), markers=(BEGIN, END)),
)
