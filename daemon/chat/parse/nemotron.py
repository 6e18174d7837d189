"""How do the Nemotron models before Nemotron 3 write tool calls?"""

from __future__ import annotations

from .call_blocks import BlockFormat, CallBlock, block_family
from .call_grammar import object_grammar

BEGIN, END = "<TOOLCALL>", "</TOOLCALL>"

NEMOTRON_FAMILY = block_family(
    BlockFormat((CallBlock(BEGIN, END),)),
    thinks=True,
    grammar=object_grammar(around=(f"{BEGIN}[", f"]{END}"), markers=(BEGIN, END)),
)
