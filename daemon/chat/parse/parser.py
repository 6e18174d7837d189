"""How a model's output is split into thinking, tool calls and content: the protocol of parsers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..conversation import ToolCall


@dataclass(frozen=True, slots=True)
class Parsed:
    """What is certain of the output so far, beyond what was returned before."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.tool_calls)

    def __add__(self, later: Parsed) -> Parsed:
        return Parsed(
            self.content + later.content,
            self.thinking + later.thinking,
            self.tool_calls + later.tool_calls,
        )


class OutputParser(Protocol):
    """Splits one output, piece by piece; a marker may arrive in parts."""

    @property
    def is_thinking(self) -> bool:
        """Whether the next text is inside a thinking block, where no grammar binds it."""
        ...

    def push(self, text: str) -> Parsed:
        """Take further text."""
        ...

    def finish(self) -> Parsed:
        """What was held back when the output ends."""
        ...


class ContentParser:
    """Passes all text on as content."""

    is_thinking = False

    def push(self, text: str) -> Parsed:
        return Parsed(text)

    def finish(self) -> Parsed:
        return Parsed()
