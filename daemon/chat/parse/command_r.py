"""How do Cohere's models write tool calls, thoughts and answers? (CONTRACT 8.5, `cohere`)"""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..conversation import Tool
from ..tool_definition import name_of
from .call_blocks import BlockFormat, CallBlock, SplitCalls, block_family
from .call_grammar import (
    NUMBER,
    arguments_value,
    join_calls,
    literal,
    object_grammar,
    quoted,
)
from .thinking import ThinkingTags
from .tool_calls import split_json_calls

ACTION, END_ACTION = "<|START_ACTION|>", "<|END_ACTION|>"
ANSWER = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")
FENCE = "```"


def _read_fenced(text: str) -> SplitCalls:
    calls, rest = split_json_calls(text)
    return calls, rest.strip().removeprefix(FENCE)


def _cohere_grammar(tools: Sequence[Tool], special: Container[str]) -> str:
    calls = []
    for tool in tools:
        head, tail = literal('{"tool_call_id": "'), literal("}")
        key = literal(f'", "tool_name": {quoted(name_of(tool))}, "parameters": ')
        calls.append(f"{head} {NUMBER} {key} {arguments_value(tool)} {tail}")
    around = (f"{ACTION}[\n    ", f"\n]{END_ACTION}")
    return join_calls(calls, (ACTION, END_ACTION), special, around=around, between=",\n    ")


# Command R7B and Command A.
COHERE_FAMILY = block_family(
    BlockFormat((CallBlock(ACTION, END_ACTION),), dropped=ANSWER),
    tags=ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>", (ACTION, *ANSWER)),
    thinks=True,
    grammar=_cohere_grammar,
)
# Command R and R+. Only a fence on a line of its own ends a block, as strings in JSON have no raw
# line breaks.
COMMAND_R_FAMILY = block_family(
    BlockFormat(
        tuple(
            CallBlock(f"Action:{blank}{FENCE}json", f"\n{FENCE}", _read_fenced)
            for blank in ("", " ")
        )
    ),
    grammar=object_grammar(
        around=(f"Action: {FENCE}json\n[", f"]\n{FENCE}"), keys=("tool_name", "parameters")
    ),
)
