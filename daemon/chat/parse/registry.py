"""Which parser reads the output of a model: a registry by name."""

from __future__ import annotations

from collections.abc import Mapping

from ..conversation import Prompt
from .forced import is_forced
from .json_call import JsonCallParser
from .parser import ContentParser, OutputParser, OutputStart, ParserFamily
from .thinking import THINKING_FAMILY

CONTENT, THINKING = "content", "thinking"

FAMILIES: Mapping[str, ParserFamily] = {
    CONTENT: ParserFamily(lambda _start: ContentParser()),
    THINKING: THINKING_FAMILY,
}


def family_of(parser: str) -> ParserFamily:
    """The family of that name; an unknown name is treated as no parser (CONTRACT 8.5)."""
    return FAMILIES.get(parser, FAMILIES[CONTENT])


def make_parser(name: str, start: OutputStart, prompt: Prompt) -> OutputParser:
    """The parser of one output. A forced call is JSON if the family has no grammar for calls."""
    family = family_of(name)
    parser = family.make(start)
    if is_forced(prompt) and not family.call_grammar:
        return JsonCallParser(parser)
    return parser
