"""Where do the tool calls stand in an output that puts them between markers?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..conversation import ToolCall
from .call_grammar import CallGrammar
from .markers import split_at, split_blanks
from .parser import OutputParser, OutputStart, Parsed, ParserFamily, Region
from .thinking import CLOSE, OPEN, ThinkingTags, thinking_then
from .tool_calls import split_json_calls

Reader = Callable[[str], tuple[Sequence[ToolCall], str]]
"""The calls in the text of a block, and the text after them. Without calls the block is broken."""


@dataclass(frozen=True, slots=True)
class MarkedBlock:
    """A part of an output that holds calls. The end of the output closes it, too."""

    opening: str
    closing: str = ""  # "": it lasts until the next block
    read: Reader = split_json_calls
    kept: str = ""  # what the opening adds to the text of the block
    first: bool = False  # it counts only at the start of the output


@dataclass(frozen=True, slots=True)
class MarkedFormat:
    """The markers of an output format."""

    blocks: tuple[MarkedBlock, ...]
    inner: tuple[str, ...] = ()  # markers inside a block
    dropped: tuple[str, ...] = ()  # markers outside of blocks that say nothing

    @property
    def openings(self) -> tuple[str, ...]:
        return tuple(block.opening for block in self.blocks)

    @property
    def markers(self) -> tuple[str, ...]:
        """All of them, without the openings that are ordinary words."""
        openings = [block.opening for block in self.blocks if not block.kept]
        closings = [block.closing for block in self.blocks if block.closing]
        return tuple(dict.fromkeys([*openings, *closings, *self.inner, *self.dropped]))


class MarkedCallParser:
    """An OutputParser of content and call blocks.

    Blanks around a block are dropped. A block that holds no sound call becomes content without
    its markers (CONTRACT 8.8).
    """

    def __init__(self, calls: MarkedFormat) -> None:
        self._calls = calls
        self._openings = {block.opening: block for block in calls.blocks}
        self._begins = frozenset(marker[0] for marker in (*self._openings, *calls.dropped))
        self._held = ""  # may become a marker, or blanks that may be dropped
        self._block: MarkedBlock | None = None
        self._body: list[str] = []  # of the block
        self._gap = ""  # the blanks before the block
        self._started = False  # there was content or a block
        self._after_call = False  # blanks are dropped

    @property
    def region(self) -> Region:
        return Region.CONTENT if self._block is None else Region.CALL

    def push(self, text: str) -> Parsed:
        self._held += text
        parsed, moved = Parsed(), True
        while moved:
            part, moved = self._read_content() if self._block is None else self._read_block()
            parsed += part
        return parsed

    def finish(self) -> Parsed:
        held, self._held = self._held, ""
        if self._block is None:
            return Parsed(held.lstrip() if self._after_call else held)
        self._body.append(held)
        return self._close(self._block)

    def _read_content(self) -> tuple[Parsed, bool]:
        """The certain content, and whether a marker was passed."""
        text, marker, self._held = self._split()
        text = text.lstrip() if self._after_call else text
        content, blanks = split_blanks(text)
        block = self._openings.get(marker)
        if block and block.first and (content or self._started):
            block, content, blanks = None, text + marker, ""
        if content:
            self._started, self._after_call = True, False
        if block:
            self._block, self._gap, self._started = block, blanks, True
        elif marker:
            content += blanks
        else:
            self._held = blanks + self._held
        return Parsed(content), bool(marker)

    def _split(self) -> tuple[str, str, str]:
        """The held text at the first marker. Most texts have nothing that could begin one."""
        if self._begins.isdisjoint(self._held):
            return self._held, "", ""
        return split_at(self._held, (*self._openings, *self._calls.dropped))

    def _read_block(self) -> tuple[Parsed, bool]:
        """Takes text into the block; the calls once it is closed, and whether it is."""
        block = self._block
        assert block is not None
        ends = (block.closing,) if block.closing else self._calls.openings
        text, marker, rest = split_at(self._held, ends)
        self._body.append(text)
        self._held = rest if marker == block.closing else marker + rest
        return (self._close(block), True) if marker else (Parsed(), False)

    def _close(self, block: MarkedBlock) -> Parsed:
        text = block.kept + "".join(self._body)
        self._block, self._body = None, []
        calls, rest = block.read(text)
        if calls:
            self._after_call = not rest
            return Parsed(self._without_markers(rest), tool_calls=tuple(calls))
        return Parsed(self._gap + self._without_markers(text))

    def _without_markers(self, text: str) -> str:
        for marker in self._calls.markers:
            text = text.replace(marker, "")
        return text


def marked_family(
    calls: MarkedFormat,
    *,
    tags: ThinkingTags | None = None,
    thinks: bool = False,
    grammar: CallGrammar | None = None,
) -> ParserFamily:
    """The family of a format. A thought may come first: between these tags, else the request's.

    `thinks`: whether the models of the family think (CONTRACT 8.3).
    """
    interrupts = tuple(block.opening for block in calls.blocks if not block.first)

    def make(start: OutputStart) -> OutputParser:
        return thinking_then(start, MarkedCallParser(calls), tags=tags, interrupts=interrupts)

    opening, closing = (OPEN, CLOSE) if tags is None else (tags.opening, tags.closing)
    return ParserFamily(
        make,
        markers=(opening, closing, *calls.markers),
        openings=(opening, *calls.openings),
        thinks=thinks,
        calls=True,
        call_grammar=grammar,
    )
