"""How do the Granite models write tool calls?"""

from __future__ import annotations

from .call_blocks import BlockFormat, CallBlock, block_family
from .call_grammar import object_grammar

TOKEN = "<|tool_call|>"

# Granite 3 writes an array after a token, Granite 4 each call between tags.
GRANITE_FAMILY = block_family(
    BlockFormat((CallBlock(TOKEN), CallBlock("<tool_call>", "</tool_call>"))),
    thinks=True,
    grammar=object_grammar(around=(f"{TOKEN}[", "]"), markers=(TOKEN,)),
)
