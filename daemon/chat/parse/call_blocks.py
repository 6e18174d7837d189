"""Which part of an output is a tool call: blocks between two markers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from ..conversation import ToolCall
from .markers import split_at, split_blanks
from .parser import Parsed, Region

# Closing markers in one quoted text. A model that repeats them without end has lost its way, and
# each one costs a look at the whole block.
MAX_QUOTED: Final = 100


@dataclass(frozen=True, slots=True)
class BlockSyntax:
    """How the calls of a family are marked.

    `read` takes the text of a block and says which calls it is, none if it is no call. `ended` says
    whether the output went on after it. `is_open` says whether a block that ended here would cut a
    quoted text or a parameter, in which the closing marker may be mentioned.
    """

    opening: str
    closing: str
    read: Callable[[str, bool], Sequence[ToolCall]]  # (block, ended)
    is_open: Callable[[str], bool] = field(default=lambda _block: False)
    bare: tuple[str, str] | None = None  # markers of a call that are themselves part of its block
    known: frozenset[str] = frozenset()  # the names that a call with such markers may have
    strays: tuple[str, ...] = ()  # markers that may follow a call and mean nothing


class _BlockState(Enum):
    CONTENT = auto()
    CALL = auto()
    AFTER = auto()  # after a call, where blanks and stray markers are dropped


class CallBlocksParser:
    """An OutputParser of content with calls in it.

    Blanks around a call are dropped. A block that is no call becomes content, without its markers.
    """

    def __init__(self, syntax: BlockSyntax) -> None:
        self._syntax = syntax
        self._state = _BlockState.CONTENT
        self._held = ""  # not yet decided
        self._blanks = ""  # before the open block
        self._is_bare = False  # whether the open block began without the family's opening marker
        self._searched = 0  # how much of `_held` is known to hold no end of the block
        self._num_quoted = 0  # markers in there
        self._num_calls = 0
        self._ended = False

    @property
    def region(self) -> Region:
        return Region.CALL if self._state is _BlockState.CALL else Region.CONTENT

    def push(self, text: str) -> Parsed:
        self._held += text
        return self._advance()

    def finish(self) -> Parsed:
        self._ended = True
        return self._advance()

    def _advance(self) -> Parsed:
        parsed = Parsed()
        steps = {
            _BlockState.CONTENT: self._content,
            _BlockState.CALL: self._block,
            _BlockState.AFTER: self._after,
        }
        while True:
            before = self._state
            part = steps[before]()
            parsed += part
            if self._state is before:
                return parsed

    def _content(self) -> Parsed:
        bare = self._syntax.bare
        openings = (self._syntax.opening, *(bare[:1] if bare else ()))
        text, marker, rest = split_at(self._held, openings)
        if not marker and self._ended:
            text, rest = self._held, ""
        if not marker:
            content, blanks = (text, "") if self._ended else split_blanks(text)
            self._held = blanks + rest
            return Parsed(content)
        content, self._blanks = split_blanks(text)
        self._is_bare = marker != self._syntax.opening
        self._held = marker + rest if self._is_bare else rest
        self._state, self._searched, self._num_quoted = _BlockState.CALL, 0, 0
        return Parsed(content)

    def _block(self) -> Parsed:
        if end := self._end():
            return self._close(*end, ended=True)
        if not self._ended:
            return Parsed()
        if self._read(self._held, ended=False):
            return self._close(self._held, "", "", ended=False)
        block, marker, rest = split_at(self._held, (self._closing,))
        if marker:  # it seemed to be quoted, but the block is no call either way
            return self._close(block, marker, rest, ended=True)
        return self._close(self._held, "", "", ended=False)

    @property
    def _closing(self) -> str:
        return self._syntax.bare[1] if self._is_bare and self._syntax.bare else self._syntax.closing

    def _end(self) -> tuple[str, str, str] | None:
        """The block, the marker that ends it and what follows, if the text so far decides it."""
        markers = (self._syntax.opening, self._closing)
        while True:
            _, marker, rest = split_at(self._held[self._searched :], markers)
            if not marker:
                self._searched = max(0, len(self._held) - max(map(len, markers)) + 1)
                return None
            at = len(self._held) - len(rest) - len(marker)
            block = self._held[:at]
            is_end = not self._syntax.is_open(block) or self._is_followed(marker, rest)
            if is_end is None:
                self._searched = at
                return None
            if is_end or self._num_quoted == MAX_QUOTED:
                return block, marker, rest
            self._searched, self._num_quoted = at + len(marker), self._num_quoted + 1

    def _is_followed(self, marker: str, rest: str) -> bool | None:
        """Whether a closing marker in an open text is the end after all: the next call follows, or
        nothing. None: more text decides it."""
        if marker != self._closing:
            return False
        follows = rest.lstrip()
        if not follows and self._ended:
            return True
        if self._syntax.opening.startswith(follows) and not self._ended:
            return None if follows != self._syntax.opening else True
        return follows.startswith(self._syntax.opening)

    def _read(self, block: str, *, ended: bool) -> Sequence[ToolCall]:
        calls = self._syntax.read(block, ended)
        is_known = not self._is_bare or {call.name for call in calls} <= self._syntax.known
        return calls if is_known else ()

    def _close(self, block: str, marker: str, rest: str, *, ended: bool) -> Parsed:
        """End the block. An opening marker that ends it begins the next one."""
        self._held = marker + rest if marker == self._syntax.opening else rest
        if calls := self._read(block, ended=ended):
            self._state, self._blanks = _BlockState.AFTER, ""
            first, self._num_calls = self._num_calls, self._num_calls + len(calls)
            numbered = (replace(call, index=i) for i, call in enumerate(calls, first))
            return Parsed(tool_calls=tuple(numbered))
        self._state = _BlockState.CONTENT
        kept = marker if self._is_bare and marker == self._closing else ""
        content, self._blanks = self._blanks + block + kept, ""
        return Parsed(content)

    def _after(self) -> Parsed:
        strays = (self._syntax.closing, *self._syntax.strays)
        self._held = self._held.lstrip()
        while stray := next((s for s in strays if self._held.startswith(s)), ""):
            self._held = self._held.removeprefix(stray).lstrip()
        undecided = any(stray.startswith(self._held) for stray in strays)
        if self._held and (self._ended or not undecided):
            self._state = _BlockState.CONTENT
        return Parsed()
