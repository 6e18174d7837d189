"""Which parser reads the output of a model: a registry by name."""

from __future__ import annotations

from collections.abc import Mapping

from .functiongemma import FUNCTION_GEMMA_FAMILY
from .gemma4 import GEMMA4_FAMILY, GEMMA4_NO_THINKING_FAMILY
from .harmony import HARMONY_FAMILY
from .parser import ContentParser, ParserFamily
from .thinking import THINKING_FAMILY

CONTENT, THINKING = "content", "thinking"

FAMILIES: Mapping[str, ParserFamily] = {
    CONTENT: ParserFamily(lambda _start: ContentParser()),
    THINKING: THINKING_FAMILY,
    "gemma4": GEMMA4_FAMILY,
    "gemma4-no-thinking": GEMMA4_NO_THINKING_FAMILY,
    "functiongemma": FUNCTION_GEMMA_FAMILY,
    "harmony": HARMONY_FAMILY,
}


def family_of(parser: str) -> ParserFamily:
    """The family of that name; an unknown name is treated as no parser (CONTRACT 8.5)."""
    return FAMILIES.get(parser, FAMILIES[CONTENT])
