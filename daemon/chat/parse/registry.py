"""Which parser reads the output of a model: a registry by name."""

from __future__ import annotations

from collections.abc import Mapping

from .generic import GENERIC_FAMILY
from .parser import ContentParser, ParserFamily
from .thinking import THINKING_FAMILY

CONTENT, THINKING, GENERIC = "content", "thinking", "generic"

FAMILIES: Mapping[str, ParserFamily] = {
    CONTENT: ParserFamily(lambda _start: ContentParser()),
    THINKING: THINKING_FAMILY,
    GENERIC: GENERIC_FAMILY,
}


def family_of(parser: str) -> ParserFamily:
    """The family of that name; an unknown name is treated as no parser (CONTRACT 8.5)."""
    return FAMILIES.get(parser, FAMILIES[CONTENT])
