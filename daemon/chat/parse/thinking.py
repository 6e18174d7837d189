"""Which part of the model's text is thinking, and which is the answer (CONTRACT 8.2)."""

from __future__ import annotations

from enum import Enum, auto

from .parser import Parsed

OPEN, CLOSE = "<think>", "</think>"


class _State(Enum):
    START = auto()  # nothing but blanks so far: an opening tag still counts
    THINKING = auto()
    AFTER = auto()  # blanks between the closing tag and the answer are eaten
    CONTENT = auto()


class ThinkingParser:
    """Splits one answer, piece by piece; a tag may arrive in parts.

    The opening tag counts only at the very start, and only the first block is recognised.
    """

    def __init__(self, *, opened: bool) -> None:
        """`opened`: the prompt already ends with the opening tag."""
        self._state = _State.THINKING if opened else _State.START
        self._held = ""
        self._is_first = True

    @property
    def is_thinking(self) -> bool:
        """Whether the model is inside its thinking block."""
        return self._state is _State.THINKING

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
        """What was held back when the answer ends."""
        held, self._held = self._held, ""
        if self._state is _State.THINKING:
            return Parsed(thinking=held)
        return Parsed() if self._state is _State.AFTER else Parsed(held)

    def _open(self) -> None:
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self._held, self._state = start.removeprefix(OPEN), _State.THINKING
        elif start and not OPEN.startswith(start):
            self._state = _State.CONTENT

    def _think(self) -> str:
        if self._is_first:
            self._held = self._held.lstrip()
            self._is_first = not self._held
        text, tag, rest = self._held.partition(CLOSE)
        if tag:
            self._held, self._state = rest, _State.AFTER
            return text
        keep = next(n for n in range(len(CLOSE) - 1, -1, -1) if text.endswith(CLOSE[:n]))
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]
