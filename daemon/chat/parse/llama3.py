"""How do the Llama 3 models write tool calls? (CONTRACT 8.8)"""

from __future__ import annotations

from ..conversation import ToolCall
from .bare_calls import BareCallParser, tool_names
from .call_blocks import BlockFormat, CallBlock, CallBlockParser, SplitCalls
from .call_grammar import object_grammar
from .parser import OutputParser, OutputStart, ParserFamily
from .thinking import CLOSE, OPEN, thinking_then
from .tool_calls import split_json_calls, split_python_calls

TAG = "<|python_tag|>"
BUILT_IN = ".call"  # follows the name of a built-in tool, as in `brave_search.call(query="x")`


def _read_tagged(text: str) -> SplitCalls:
    calls, rest = split_json_calls(text)
    if calls:
        return calls, rest
    calls, rest = split_python_calls(text)
    return [ToolCall(call.name.removesuffix(BUILT_IN), call.arguments) for call in calls], rest


_TAGGED = BlockFormat((CallBlock(TAG, read=_read_tagged),))
_NO_CALLS = BlockFormat((), dropped=(TAG,))


def _make(start: OutputStart) -> OutputParser:
    """Without tools in the request, JSON is an answer."""
    names = tool_names(start.tools)
    inner = CallBlockParser(_TAGGED if names else _NO_CALLS)
    return thinking_then(start, BareCallParser(names, inner), interrupts=(TAG,))


LLAMA3_FAMILY = ParserFamily(
    _make,
    markers=(OPEN, CLOSE, TAG),
    openings=(OPEN, TAG),
    calls=True,
    call_grammar=object_grammar(between="; ", keys=("name", "parameters")),
)
