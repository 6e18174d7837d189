"""Which parser reads the output of a model: a registry by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .parser import ContentParser, OutputParser
from .thinking import OPEN, ThinkingParser

CONTENT, THINKING = "content", "thinking"

# Each takes the rendered prompt, which may already open a block that the output goes on with.
PARSERS: Mapping[str, Callable[[str], OutputParser]] = {
    CONTENT: lambda _prompt: ContentParser(),
    THINKING: lambda prompt: ThinkingParser(opened=prompt.rstrip().endswith(OPEN)),
}
