"""Which part of an output is thinking, and which is content: tags like `<think>` (CONTRACT 8.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from .markers import split_at, split_blanks
from .parser import ContentParser, OutputParser, OutputStart, Parsed, ParserFamily, Region

OPEN, CLOSE = "<think>", "</think>"
MAX_TAIL = 1 << 16  # characters at the end of a prompt that are searched for an open thought

# What stands between turns: <|im_start|>, <turn|>, <｜User｜>, [/INST], <end_of_turn>, </s>
_TURN = re.compile(r"<\|\w+\|?>|<\w+\|>|<｜[^｜<>]+｜>|\[/?INST\]|<(?:start|end)_of_turn>|</?s>")


@dataclass(frozen=True, slots=True)
class ThinkingTags:
    """The texts around a thought, and how the format treats what stands between them."""

    opening: str = OPEN
    closing: str = CLOSE
    interrupts: tuple[str, ...] = ()  # markers of the inner parser that end a thought as well
    trims: bool = False  # whether blanks at the end of a thought are dropped


class _State(Enum):
    START = auto()  # only blanks so far, so that a tag still counts
    THINKING = auto()
    AFTER = auto()  # after the closing tag, where blanks are dropped
    CONTENT = auto()


class ThinkingParser:
    """An OutputParser of a thought that comes first; all after it goes to an inner parser.

    The opening tag counts only at the very start of the output, and only the first block counts. A
    hidden thought is dropped, and so is a lone closing tag at the start: a model whose thinking is
    off may still close a block that it never opened.
    """

    def __init__(
        self,
        *,
        opened: bool,
        inner: OutputParser | None = None,
        tags: ThinkingTags | None = None,
        hidden: bool = False,
        begun: bool = False,
    ) -> None:
        """`opened`: the prompt ends in a block, `begun`: and holds a part of its thought."""
        self._state = _State.THINKING if opened else _State.START
        self._inner = inner or ContentParser()
        self._tags = tags or ThinkingTags()
        self._hidden = hidden
        self._held = ""  # may be the start of a tag, or blanks that may be dropped
        self._has_closed = False  # whether a closing tag was dropped from the content
        self._at_start = not begun  # of the block: leading blanks are dropped

    @property
    def region(self) -> Region:
        return Region.THINKING if self._state is _State.THINKING else self._inner.region

    def push(self, text: str) -> Parsed:
        self._held += text
        thinking = ""
        if self._state is _State.START:
            self._open()
        if self._state is _State.THINKING:
            thinking = self._think()
        if self._state is _State.AFTER and (rest := self._held.lstrip()):
            self._held, self._state = rest, _State.CONTENT
        parsed = self._thought(thinking)
        if self._state is not _State.CONTENT:
            return parsed
        return parsed + self._content()

    def finish(self) -> Parsed:
        held, self._held = self._held, ""
        if self._state is _State.THINKING:
            return self._thought(held) + self._inner.finish()
        content = "" if self._state is _State.AFTER else held
        return self._inner.push(content) + self._inner.finish()

    def _open(self) -> None:
        """Leave START once the text is known to begin with a tag, or not to."""
        start = self._held.lstrip()
        tags = [(self._tags.opening, _State.THINKING)]
        if self._hidden:
            tags.append((self._tags.closing, _State.AFTER))
        for tag, state in tags:
            if start.startswith(tag):
                self._held, self._state = start.removeprefix(tag), state
                return
        if start and not any(tag.startswith(start) for tag, _ in tags):
            self._state = _State.CONTENT

    def _think(self) -> str:
        """The certain part of the thinking; the start of a marker is held back."""
        if self._at_start:
            self._held = self._held.lstrip()
            self._at_start = not self._held
        ends = (self._tags.closing, *self._tags.interrupts)
        text, marker, self._held = split_at(self._held, ends)
        if self._tags.trims:
            text, blanks = split_blanks(text)
            self._held = self._held if marker else blanks + self._held
        if marker == self._tags.closing:
            self._state = _State.AFTER
        elif marker:
            self._held, self._state = marker + self._held, _State.CONTENT
        return text

    def _content(self) -> Parsed:
        """The certain part of the content.

        Where thinking is off, the first closing tag is dropped: a model may go on to think although
        its prompt has closed the thought. In a call it is text.
        """
        text, self._held = self._held, ""
        if not self._hidden or self._has_closed:
            return self._inner.push(text)
        before, marker, rest = split_at(text, (self._tags.closing,))
        parsed = self._inner.push(before)
        if not marker:
            self._held = rest
            return parsed
        if self._inner.region is Region.CALL:
            return parsed + self._inner.push(marker) + self._inner.push(rest)
        self._has_closed = True
        return parsed + self._inner.push(rest)

    def _thought(self, text: str) -> Parsed:
        return Parsed() if self._hidden else Parsed(thinking=text)


def thinking_then(
    start: OutputStart,
    inner: OutputParser | None = None,
    *,
    tags: ThinkingTags | None = None,
    interrupts: Sequence[str] = (),
    trims: bool = False,
) -> ThinkingParser:
    """A parser of a thought, then of what `inner` reads (by default: content).

    The tags are the given ones, else those of the request's format, else `<think>`. With `think:
    false` the thought is hidden, because it must not show up as content (CONTRACT 1.7).
    `interrupts` and `trims` are as in ThinkingTags.
    """
    if tags is None:
        opening, closing = start.format.think_open.strip(), start.format.think_close.strip()
        tags = ThinkingTags(opening or OPEN, closing or CLOSE, tuple(interrupts), trims)
    thought = open_thought(start.prompt, tags.opening, tags.closing)
    return ThinkingParser(
        opened=thought is not None,
        begun=bool(thought),
        inner=inner,
        tags=tags,
        hidden=start.think is False,
    )


def open_thought(prompt: str, opening: str, closing: str) -> str | None:
    """The thought in which a prompt ends, without blanks around it; None if it ends in none.

    A thought that has begun counts only in the last turn, and only at the start of a line or after
    a marker: the opening tag may be what a user, or an answer that is continued, speaks of.
    """
    tail = prompt[-MAX_TAIL:].rpartition(closing)[2]
    turns = [found.end() for found in _TURN.finditer(tail) if not opening.startswith(found[0])]
    before, tag, thought = tail[max(turns, default=0) :].partition(opening)
    is_first = not before or before.endswith("\n")
    return thought.strip() if tag and (is_first or not thought.strip()) else None


THINKING_FAMILY = ParserFamily(thinking_then, markers=(OPEN, CLOSE), openings=(OPEN,), thinks=True)
