"""Which part of an output is thinking, and which is content: `<think>` tags (CONTRACT 8.2)."""

from __future__ import annotations

from enum import Enum, auto

from .parser import OutputStart, Parsed, ParserFamily, Region

OPEN, CLOSE = "<think>", "</think>"


class _State(Enum):
    START = auto()  # only blanks so far, so that an opening tag still counts
    THINKING = auto()
    AFTER = auto()  # after the closing tag, where blanks are dropped
    CONTENT = auto()


class ThinkingParser:
    """An OutputParser of thinking blocks.

    The opening tag counts only at the very start of the output, and only the first block counts.
    """

    def __init__(self, *, opened: bool) -> None:
        """`opened`: the prompt ends with the opening tag, so the output begins inside a block."""
        self._state = _State.THINKING if opened else _State.START
        self._held = ""  # may be the start of a tag, or blanks that may be dropped
        self._at_start = True  # of the block: leading blanks are dropped

    @property
    def region(self) -> Region:
        return Region.THINKING if self._state is _State.THINKING else Region.CONTENT

    def push(self, text: str) -> Parsed:
        self._held += text
        thinking = ""
        if self._state is _State.START:
            self._open()
        if self._state is _State.THINKING:
            thinking = self._think()
        if self._state is _State.AFTER and (rest := self._held.lstrip()):
            self._held, self._state = rest, _State.CONTENT
        if self._state is not _State.CONTENT:
            return Parsed(thinking=thinking)
        content, self._held = self._held, ""
        return Parsed(content, thinking)

    def finish(self) -> Parsed:
        held, self._held = self._held, ""
        if self._state is _State.THINKING:
            return Parsed(thinking=held)
        return Parsed() if self._state is _State.AFTER else Parsed(held)

    def _open(self) -> None:
        """Leave START once the text is known to begin with the opening tag, or not to."""
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self._held, self._state = start.removeprefix(OPEN), _State.THINKING
        elif start and not OPEN.startswith(start):
            self._state = _State.CONTENT

    def _think(self) -> str:
        """The certain part of the thinking; the start of a closing tag is held back."""
        if self._at_start:
            self._held = self._held.lstrip()
            self._at_start = not self._held
        text, tag, rest = self._held.partition(CLOSE)
        if tag:
            self._held, self._state = rest, _State.AFTER
            return text
        keep = next(n for n in range(len(CLOSE) - 1, -1, -1) if text.endswith(CLOSE[:n]))
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _make(start: OutputStart) -> ThinkingParser:
    return ThinkingParser(opened=start.prompt.rstrip().endswith(OPEN))


THINKING_FAMILY = ParserFamily(_make, markers=(OPEN, CLOSE), openings=(OPEN,), thinks=True)
