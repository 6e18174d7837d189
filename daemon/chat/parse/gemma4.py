"""Which part of Gemma 4's output is thinking, content or a tool call (CONTRACT 8.7)."""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from ..conversation import Tool
from .gemma_calls import GemmaCallReader
from .gemma_grammar import gemma_grammar
from .markers import split_at, split_blanks
from .parser import OutputStart, Parsed, ParserFamily, Region
from .thinking import open_thought

THOUGHT_NAME = "thought\n"  # of the channel of thoughts
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GemmaMarkers:
    """The marker tokens of a family of Gemma models."""

    call_open: str
    call_close: str
    response_open: str  # after a call the model may begin the tool's result itself
    quote: str
    channel_open: str = ""  # "": the models do not think
    channel_close: str = ""

    @property
    def openings(self) -> tuple[str, ...]:
        return (*filter(None, [self.channel_open]), self.call_open)

    @property
    def strays(self) -> tuple[str, ...]:
        """Markers that mean nothing in content or in a thought, and are dropped there."""
        return (
            self.call_close,
            self.response_open,
            self.quote,
            *filter(None, [self.channel_close]),
        )

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.openings, *self.strays)

    def call_grammar(self, tools: Sequence[Tool], special: Container[str]) -> str:
        """As ParserFamily.call_grammar."""
        if not all(text in special for text in (self.call_open, self.call_close, self.quote)):
            return ""  # a string could hold what begins like a quote
        return gemma_grammar(
            tools, call_open=self.call_open, call_close=self.call_close, quote=self.quote
        )


GEMMA4_MARKERS = GemmaMarkers(
    call_open="<|tool_call>",
    call_close="<tool_call|>",
    response_open="<|tool_response>",
    quote='<|"|>',
    channel_open="<|channel>",
    channel_close="<channel|>",
)


class _GemmaState(Enum):
    CONTENT = auto()
    CHANNEL = auto()  # at the start of a channel, where its name stands
    THINKING = auto()
    AFTER_THINKING = auto()  # blanks are dropped
    CALL = auto()
    AFTER_CALL = auto()  # blanks and the markers that end a call are dropped


REGIONS = {
    _GemmaState.CHANNEL: Region.THINKING,
    _GemmaState.THINKING: Region.THINKING,
    _GemmaState.CALL: Region.CALL,
}


class GemmaParser:
    """An OutputParser of Gemma models that call tools between markers."""

    def __init__(self, markers: GemmaMarkers, start: OutputStart, *, thinks: bool) -> None:
        """`thinks`: whether thoughts are passed on; if not, they are discarded."""
        self._markers = markers
        self._reader = GemmaCallReader(markers.quote, start.tools)
        self._thinks = thinks
        self._state = _GemmaState.CONTENT
        if markers.channel_open:
            opening = f"{markers.channel_open}{THOUGHT_NAME}"
            thought = open_thought(start.prompt, opening, markers.channel_close)
            self._state = self._state if thought is None else _GemmaState.THINKING
        self._held = ""  # what a later piece may still change
        self._num_calls = 0
        self._any_marker = re.compile("|".join(map(re.escape, markers.all)))
        self._steps = {
            _GemmaState.CONTENT: self._read_content,
            _GemmaState.CHANNEL: self._read_channel,
            _GemmaState.THINKING: self._read_thinking,
            _GemmaState.AFTER_THINKING: self._read_after_thinking,
            _GemmaState.CALL: self._read_call,
            _GemmaState.AFTER_CALL: self._read_after_call,
        }

    @property
    def region(self) -> Region:
        return REGIONS.get(self._state, Region.CONTENT)

    def push(self, text: str) -> Parsed:
        self._held += text
        parsed = Parsed()
        before = None
        while before != (self._state, self._held):
            before = (self._state, self._held)
            parsed += self._steps[self._state]()
        return parsed

    def finish(self) -> Parsed:
        held, self._held = self._held, ""
        if self.region is Region.THINKING:
            return self._thought(held)
        if self._state is _GemmaState.CALL:
            self._state = _GemmaState.AFTER_CALL
            text, _, _ = split_at(held, (self._markers.call_close,))
            return self._call(text if text.rstrip().endswith("}") else held)
        return Parsed(held)

    def _read_content(self) -> Parsed:
        text, marker, rest = split_at(self._held, self._markers.all)
        if marker in self._markers.openings:
            self._held, self._state = rest, self._after(marker)
            return Parsed(text.rstrip())
        return Parsed(self._pass_on(text, rest))

    def _read_channel(self) -> Parsed:
        if self._held.startswith(THOUGHT_NAME):
            self._held = self._held.removeprefix(THOUGHT_NAME)
        elif THOUGHT_NAME.startswith(self._held):
            return Parsed()  # may become the name
        self._state = _GemmaState.THINKING
        return Parsed()

    def _read_thinking(self) -> Parsed:
        text, marker, rest = split_at(self._held, self._markers.all)
        if marker and marker in (self._markers.channel_close, *self._markers.openings):
            self._held, self._state = rest, self._after(marker)
            return self._thought(text.rstrip())
        return self._thought(self._pass_on(text, rest))

    def _read_after_thinking(self) -> Parsed:
        self._held = self._held.lstrip()
        if self._held:
            self._state = _GemmaState.CONTENT
        return Parsed()

    def _read_call(self) -> Parsed:
        text, marker, rest = split_at(self._held, (self._markers.call_close,))
        if not marker:
            return Parsed()
        self._held, self._state = rest, _GemmaState.AFTER_CALL
        return self._call(text)

    def _read_after_call(self) -> Parsed:
        self._held = self._held.lstrip()
        for marker in (self._markers.call_close, self._markers.response_open):
            if self._held.startswith(marker):
                self._held = self._held.removeprefix(marker)
                return Parsed()
            if marker.startswith(self._held):
                return Parsed()  # nothing yet, or what may become the marker
        self._state = _GemmaState.CONTENT
        return Parsed()

    def _after(self, marker: str) -> _GemmaState:
        if marker == self._markers.channel_close:
            return _GemmaState.AFTER_THINKING
        return _GemmaState.CALL if marker == self._markers.call_open else _GemmaState.CHANNEL

    def _pass_on(self, text: str, rest: str) -> str:
        """The part of a text that is certain; blanks at its end may still be dropped."""
        kept, blanks = split_blanks(text)
        self._held = blanks + rest
        return kept

    def _thought(self, text: str) -> Parsed:
        return Parsed(thinking=text if self._thinks else "")

    def _call(self, text: str) -> Parsed:
        """The call, or its text as content if it is none: an answer is never blank."""
        call = self._reader.read(text)
        if call is None:
            log.warning("a tool call that cannot be read becomes content: %.200r", text)
            return Parsed(self._any_marker.sub("", text))
        self._num_calls += 1
        return Parsed(tool_calls=(msgspec.structs.replace(call, index=self._num_calls - 1),))


def gemma_family(markers: GemmaMarkers, *, thinks: bool) -> ParserFamily:
    """The family of these markers. `thinks`: whether it separates thoughts."""

    def make(start: OutputStart) -> GemmaParser:
        return GemmaParser(markers, start, thinks=thinks and bool(start.think))

    return ParserFamily(
        make,
        markers=markers.all,
        openings=markers.openings,
        thinks=thinks,
        calls=True,
        call_grammar=markers.call_grammar,
    )


GEMMA4_FAMILY = gemma_family(GEMMA4_MARKERS, thinks=True)
GEMMA4_NO_THINKING_FAMILY = gemma_family(GEMMA4_MARKERS, thinks=False)
