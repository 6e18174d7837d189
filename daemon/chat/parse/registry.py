"""Which parser reads the output of a model: a registry by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .parser import ContentParser, OutputParser
from .thinking import OPEN, ThinkingParser

CONTENT, THINKING = "content", "thinking"

MakeParser = Callable[[str], OutputParser]
"""Makes the parser of one output from its rendered prompt, which may end inside an open block."""

PARSERS: Mapping[str, MakeParser] = {
    CONTENT: lambda _prompt: ContentParser(),
    THINKING: lambda prompt: ThinkingParser(opened=prompt.rstrip().endswith(OPEN)),
}
