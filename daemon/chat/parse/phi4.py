"""How do the Phi-4 models write tool calls?"""

from __future__ import annotations

from collections.abc import Sequence

from ..conversation import ToolCall
from .call_grammar import object_grammar
from .marked_calls import MarkedBlock, MarkedFormat, marked_family
from .tool_calls import split_json_calls

BEGIN, END = "<|tool_call|>", "<|/tool_call|>"
WORD = "functools"  # Phi-4-mini often writes it before the array instead of the markers


def _read_array(text: str) -> tuple[Sequence[ToolCall], str]:
    calls, rest = split_json_calls(text.removeprefix(WORD))
    return (calls, rest) if calls else ([], text)


PHI4_FAMILY = marked_family(
    MarkedFormat(
        (MarkedBlock(BEGIN, END), MarkedBlock(f"{WORD}[", "", _read_array, f"{WORD}[", first=True)),
    ),
    thinks=True,
    grammar=object_grammar(around=(f"{BEGIN}[", f"]{END}"), markers=(BEGIN, END)),
)
