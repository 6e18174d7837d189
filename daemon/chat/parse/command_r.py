"""How do Cohere's models write tool calls, thoughts and answers? (CONTRACT 8.5, `cohere`)"""

from __future__ import annotations

from collections.abc import Sequence

from ..conversation import ToolCall
from .arguments import split_calls
from .marked_calls import MarkedBlock, MarkedFormat, marked_family
from .thinking import ThinkingTags

ACTION, END_ACTION = "<|START_ACTION|>", "<|END_ACTION|>"
ANSWER = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")
FENCE = "```"


def _read_fenced(text: str) -> tuple[Sequence[ToolCall], str]:
    calls, rest = split_calls(text)
    return calls, rest.strip().removeprefix(FENCE)


# Command R7B and Command A.
COHERE_FAMILY = marked_family(
    MarkedFormat((MarkedBlock(ACTION, END_ACTION),), dropped=ANSWER),
    tags=ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>", (ACTION, *ANSWER)),
    thinks=True,
)
# Command R and R+. Only a fence on a line of its own ends a block, as strings in JSON have no raw
# line breaks.
COMMAND_R_FAMILY = marked_family(
    MarkedFormat(
        tuple(
            MarkedBlock(f"Action:{blank}{FENCE}json", f"\n{FENCE}", _read_fenced)
            for blank in ("", " ")
        )
    )
)
