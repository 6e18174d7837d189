"""Where do the tool calls stand in an output that puts them between markers?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from ..conversation import ToolCall
from .call_grammar import CallGrammar
from .markers import split_at, split_blanks
from .parser import OutputParser, OutputStart, Parsed, ParserFamily, Region
from .thinking import CLOSE, OPEN, ThinkingTags, thinking_then
from .tool_calls import split_json_calls

# Closing markers in one quoted text. A model that repeats them without end has lost its way, and
# each one costs a look at the whole block.
MAX_QUOTED: Final = 100

SplitCalls = tuple[Sequence[ToolCall], str]
"""The calls in the text of a block, and the text after them. Without calls the block is broken."""


@dataclass(frozen=True, slots=True)
class CallBlock:
    """A part of an output that holds calls. The end of the output closes it, too."""

    opening: str
    closing: str = ""  # "": it lasts until the next block
    read: Callable[[str], SplitCalls] = split_json_calls
    read_cut: Callable[[str], SplitCalls] | None = None  # if the output ends in it; None: `read`
    ended_by: tuple[str, ...] = ()  # openings that end it if its closing marker is missing
    is_open: Callable[[str], bool] = field(default=lambda _text: False)
    """Whether a block that ended here would cut a quoted text, which may mention the marker."""
    keeps_markers: bool = False  # they are part of its text
    first: bool = False  # it counts only at the start of the output


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """The markers of an output format."""

    blocks: tuple[CallBlock, ...]
    inner: tuple[str, ...] = ()  # markers inside a block
    dropped: tuple[str, ...] = ()  # markers outside of blocks that say nothing
    strays: tuple[str, ...] = ()  # other markers that may follow a call and say nothing

    @property
    def openings(self) -> tuple[str, ...]:
        return tuple(block.opening for block in self.blocks)

    @property
    def closings(self) -> tuple[str, ...]:
        return tuple(block.closing for block in self.blocks if block.closing)

    @property
    def markers(self) -> tuple[str, ...]:
        """All of them, without those that are ordinary words."""
        pairs = [(b.opening, b.closing) for b in self.blocks if not b.keeps_markers]
        found = [*(first for first, _ in pairs), *(last for _, last in pairs if last)]
        return tuple(dict.fromkeys([*found, *self.inner, *self.dropped]))


class CallBlockParser:
    """An OutputParser of content and call blocks.

    Blanks around a block are dropped. A block that holds no sound call becomes content without
    its markers (CONTRACT 8.8).
    """

    def __init__(self, calls: BlockFormat) -> None:
        self._calls = calls
        self._blocks = {block.opening: block for block in calls.blocks}
        self._strays = (*calls.closings, *calls.dropped, *calls.strays)
        self._held = ""  # not yet decided
        self._block: CallBlock | None = None
        self._gap = ""  # the blanks before the block
        self._searched = 0  # how much of the held text is known to hold no end of the block
        self._num_quoted = 0  # markers in there
        self._num_calls = 0
        self._started = False  # there was content or a block
        self._after_call = False  # blanks and strays are dropped
        self._ended = False

    @property
    def region(self) -> Region:
        return Region.CONTENT if self._block is None else Region.CALL

    def push(self, text: str) -> Parsed:
        self._held += text
        return self._advance()

    def finish(self) -> Parsed:
        self._ended = True
        return self._advance()

    def _advance(self) -> Parsed:
        parsed, moved = Parsed(), True
        while moved:
            block = self._block
            part, moved = self._read_content() if block is None else self._read_block(block)
            parsed += part
        return parsed

    def _read_content(self) -> tuple[Parsed, bool]:
        """The certain content, and whether a marker was passed."""
        if self._after_call and not self._skip_strays():
            return Parsed(), False
        text, marker, rest = split_at(self._held, (*self._blocks, *self._calls.dropped))
        if self._ended and not marker:
            text, rest = self._held, ""
        content, blanks = split_blanks(text)
        block = self._blocks.get(marker)
        if block and block.first and (content or self._started):
            block, content, blanks = None, text + marker, ""
        self._started |= bool(content or block)
        if block:
            kept = marker if block.keeps_markers else ""
            self._block, self._gap, self._held = block, blanks, kept + rest
            self._searched, self._num_quoted = len(kept), 0
        elif marker or self._ended:
            content, self._held = content + blanks, rest
        else:
            self._held = blanks + rest
        return Parsed(content), bool(marker)

    def _skip_strays(self) -> bool:
        """Drops what means nothing after a call, and says whether something else follows."""
        self._held = self._held.lstrip()
        while stray := next((s for s in self._strays if self._held.startswith(s)), ""):
            self._held = self._held.removeprefix(stray).lstrip()
        may_be_stray = not self._ended and any(s.startswith(self._held) for s in self._strays)
        self._after_call = not self._held or may_be_stray
        return not self._after_call

    def _read_block(self, block: CallBlock) -> tuple[Parsed, bool]:
        """The calls once the block has ended, and whether it has."""
        if end := self._find_end(block):
            return self._close(block, *end), True
        if not self._ended:
            return Parsed(), False
        held = self._held
        calls, rest = (block.read_cut or block.read)(held)
        text, marker, after = split_at(held, (block.closing,)) if block.closing else (held, "", "")
        if marker and not calls:  # it seemed to be quoted, but the block is no call either way
            return self._close(block, text, marker, after), True
        self._held = ""
        return self._leave(held, calls, rest), True

    def _find_end(self, block: CallBlock) -> tuple[str, str, str] | None:
        """The block, the marker that ends it and what follows, if the text so far decides it."""
        ends = (block.closing, *block.ended_by) if block.closing else self._calls.openings
        while True:
            _, marker, rest = split_at(self._held[self._searched :], ends)
            if not marker:
                self._searched = max(self._searched, len(self._held) - max(map(len, ends)) + 1)
                return None
            at = len(self._held) - len(rest) - len(marker)
            text = self._held[:at]
            is_end = not block.is_open(text) or self._is_followed(block, marker, rest)
            if is_end is None:
                self._searched = at
                return None
            if is_end or self._num_quoted == MAX_QUOTED:
                return text, marker, rest
            self._searched, self._num_quoted = at + len(marker), self._num_quoted + 1

    def _is_followed(self, block: CallBlock, marker: str, rest: str) -> bool | None:
        """Whether a closing marker in an open text is the end after all: the next call follows, or
        nothing. None: more text decides it."""
        if marker != block.closing:
            return False
        follows = rest.lstrip()
        if not follows and self._ended:
            return True
        if follows.startswith(block.ended_by):
            return True
        may_follow = any(opening.startswith(follows) for opening in block.ended_by)
        return None if may_follow and not self._ended else False

    def _close(self, block: CallBlock, text: str, marker: str, after: str) -> Parsed:
        """End the block. An opening marker that ends it begins the next one."""
        is_closed = marker == block.closing
        self._held = after if is_closed else marker + after
        calls, rest = block.read(text)
        return self._leave(
            text + marker if is_closed and block.keeps_markers else text, calls, rest
        )

    def _leave(self, text: str, calls: Sequence[ToolCall], rest: str) -> Parsed:
        """The calls of a block and the text after them, or if it has none its own text."""
        gap, self._gap, self._block = self._gap, "", None
        if not calls:
            return Parsed(gap + self._without_markers(text))
        self._after_call = not rest
        first, self._num_calls = self._num_calls, self._num_calls + len(calls)
        numbered = (replace(call, index=number) for number, call in enumerate(calls, first))
        return Parsed(self._without_markers(rest), tool_calls=tuple(numbered))

    def _without_markers(self, text: str) -> str:
        for marker in self._calls.markers:
            text = text.replace(marker, "")
        return text


def read_pieces(
    text: str, begin: str, end: str, read: Callable[[str], ToolCall | None]
) -> SplitCalls:
    """The calls of a block in which each has markers of its own. A broken one breaks the block."""
    pieces = [piece.replace(end, "") for piece in text.split(begin)]
    calls = [read(piece) for piece in pieces if piece.strip()]
    found = [call for call in calls if call is not None]
    return (found, "") if len(found) == len(calls) else ([], text)


def block_family(
    calls: BlockFormat,
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
        return thinking_then(start, CallBlockParser(calls), tags=tags, interrupts=interrupts)

    opening, closing = (OPEN, CLOSE) if tags is None else (tags.opening, tags.closing)
    return ParserFamily(
        make,
        markers=(opening, closing, *calls.markers),
        openings=(opening, *calls.openings),
        thinks=thinks,
        calls=True,
        call_grammar=grammar,
    )
