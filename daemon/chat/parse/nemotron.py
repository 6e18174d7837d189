"""How do the Nemotron models before Nemotron 3 write tool calls?"""

from __future__ import annotations

from .marked_calls import MarkedBlock, MarkedFormat, marked_family

NEMOTRON_FAMILY = marked_family(
    MarkedFormat((MarkedBlock("<TOOLCALL>", "</TOOLCALL>"),)), thinks=True
)
