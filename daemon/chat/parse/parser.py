"""How a model's output is split into thinking, content and tool calls: the protocol of parsers."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from ..conversation import Tool, ToolCall
from ..format import ChatFormat


class Region(Enum):
    """The part of an output to which the next text belongs."""

    THINKING = auto()  # no grammar applies
    CONTENT = auto()  # the grammar of an answer or of a forced call applies
    CALL = auto()  # the grammar of a forced call applies


@dataclass(frozen=True, slots=True)
class OutputStart:
    """What is known before the first token of an output."""

    prompt: str = ""  # as rendered; it may end inside an open thought
    tools: Sequence[Tool] = ()  # that the request offers
    think: bool | str | None = None  # as in Conversation
    format: ChatFormat = field(default_factory=ChatFormat)


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
    def region(self) -> Region:
        """The part to which the next text belongs, as far as the text so far decides it."""
        ...

    def push(self, text: str) -> Parsed:
        """Take the next piece. Returns only what no later piece can change."""
        ...

    def finish(self) -> Parsed:
        """The output has ended. Returns the text that was held back."""
        ...


class ContentParser:
    """Passes all text on as content."""

    region = Region.CONTENT

    def push(self, text: str) -> Parsed:
        return Parsed(text)

    def finish(self) -> Parsed:
        return Parsed()


@dataclass(frozen=True, slots=True)
class ParserFamily:
    """The output format that several models share."""

    make: Callable[[OutputStart], OutputParser]
    markers: tuple[str, ...] = ()  # tokens that the parser sees as text, although they are special
    openings: tuple[str, ...] = ()  # markers that begin a thought or a call
    reopens: bool = False  # each message begins with an opening, also one after a thought
    thinks: bool = False  # whether it separates thoughts (CONTRACT 8.3)
    calls: bool = False  # whether it finds tool calls (CONTRACT 8.3)
    call_grammar: Callable[[Sequence[Tool], Container[str]], str] | None = None
    """A Lark grammar (GUIDE 7.4) of one call or more of any of these tools, with all markers; the
    second argument holds the markers that the vocabulary calls control tokens, which a grammar must
    name as tokens. The parser reads what the grammar allows. None, or "" for this vocabulary: there
    is none, and a forced call is worded as JSON."""
