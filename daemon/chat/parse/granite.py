"""How do the Granite models write tool calls?"""

from __future__ import annotations

from .call_grammar import object_grammar
from .marked_calls import MarkedBlock, MarkedFormat, marked_family

TOKEN = "<|tool_call|>"

# Granite 3 writes an array after a token, Granite 4 each call between tags.
GRANITE_FAMILY = marked_family(
    MarkedFormat((MarkedBlock(TOKEN), MarkedBlock("<tool_call>", "</tool_call>"))),
    thinks=True,
    grammar=object_grammar(around=(f"{TOKEN}[", "]"), markers=(TOKEN,)),
)
