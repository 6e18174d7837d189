"""How do the Nemotron models before Nemotron 3 write tool calls?"""

from __future__ import annotations

from .call_grammar import object_grammar
from .marked_calls import MarkedBlock, MarkedFormat, marked_family

BEGIN, END = "<TOOLCALL>", "</TOOLCALL>"

NEMOTRON_FAMILY = marked_family(
    MarkedFormat((MarkedBlock(BEGIN, END),)),
    thinks=True,
    grammar=object_grammar(around=(f"{BEGIN}[", f"]{END}"), markers=(BEGIN, END)),
)
