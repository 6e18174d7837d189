"""How do the Granite models write tool calls?"""

from __future__ import annotations

from .marked_calls import MarkedBlock, MarkedFormat, marked_family

# Granite 3 writes an array after a token, Granite 4 each call between tags.
GRANITE_FAMILY = marked_family(
    MarkedFormat((MarkedBlock("<|tool_call|>"), MarkedBlock("<tool_call>", "</tool_call>"))),
    thinks=True,
)
