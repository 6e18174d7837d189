"""How a model's output is split into thinking, content and tool calls: the protocol of parsers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..conversation import ToolCall


@dataclass(frozen=True, slots=True)
class Parsed:
    """A split part of the output. It is false if empty; `+` joins it with the part that follows."""

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
    """Splits one output that arrives in pieces, which may cut a marker anywhere."""

    @property
    def is_thinking(self) -> bool:
        """Whether the next text belongs to a thinking block, where no grammar applies."""
        ...

    def push(self, text: str) -> Parsed:
        """Take the next piece. Returns only what no later piece can change."""
        ...

    def finish(self) -> Parsed:
        """The output has ended. Returns the text that was held back."""
        ...


class ContentParser:
    """Passes all text on as content."""

    is_thinking = False

    def push(self, text: str) -> Parsed:
        return Parsed(text)

    def finish(self) -> Parsed:
        return Parsed()
