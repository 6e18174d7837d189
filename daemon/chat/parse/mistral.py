"""How do the Mistral and Ministral models write tool calls and thoughts? (CONTRACT 8.8)"""

from __future__ import annotations

import re

from ..conversation import ToolCall
from .call_blocks import BlockFormat, CallBlock, SplitCalls, block_family
from .thinking import ThinkingTags
from .tool_calls import split_json_calls
from .values import Unreadable, value_at

CALLS, ARGUMENTS, ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"

_NAMED = re.compile(r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*([^\s\[\]{}]+)\s*)?(?:\[ARGS\])?\s*")


def _read_block(text: str) -> SplitCalls:
    """An array of calls, as older models write it, or a name and an object."""
    named = _NAMED.match(text)
    if named is None:
        return split_json_calls(text)
    try:
        arguments, end = value_at(text, named.end(), cut_strings=True)
    except Unreadable:
        return [], text
    if not isinstance(arguments, dict):
        return [], text
    return [ToolCall(named[1], arguments, named[2] or "")], text[end:].lstrip()


_FORMAT = BlockFormat((CallBlock(CALLS, read=_read_block),), inner=(ARGUMENTS, ID))
MISTRAL_FAMILY = block_family(_FORMAT)
MINISTRAL_FAMILY = block_family(_FORMAT, tags=ThinkingTags("[THINK]", "[/THINK]", (CALLS,)))
