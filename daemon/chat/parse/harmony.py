"""Which part of gpt-oss's output is thinking, content or a tool call: harmony (CONTRACT 8.8)."""

from __future__ import annotations

import logging
import re
from enum import Enum, auto

from ..conversation import ToolCall
from ..tool_identifiers import identifiers
from .markers import split_at
from .parser import OutputStart, Parsed, ParserFamily, Region
from .values import json_object

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKERS = (START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS)
FUNCTIONS = "functions."
# What a header begins with if the prompt or the marker of the start stands before it.
HEADER_STARTS = (START, CHANNEL, MESSAGE, f"to={FUNCTIONS}")
STRAYS = (CONSTRAIN, *ENDS)  # markers that mean nothing between messages
HEADER_WORDS = ("assistant", "analysis", "commentary", "final", "json", "code")
RECIPIENT = re.compile(r"\bto=([^\s<]+)")
PEOPLE = ("assistant", "user", "all")  # recipients that are no tools
CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
ANY_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
log = logging.getLogger(__name__)


class _HarmonyState(Enum):
    BETWEEN = auto()  # before a message; blanks are dropped
    HEADER = auto()
    BODY = auto()


class HarmonyParser:
    """An OutputParser of messages that name a channel and a recipient.

    Text that has no header is content, because a model may forget it.
    """

    def __init__(self, start: OutputStart) -> None:
        self._names = {made: name for name, made in identifiers(start.tools).items()}
        self._state = _HarmonyState.BETWEEN
        self._region = Region.CONTENT  # of the message
        self._tool = ""  # whose call the message is, in region CALL
        self._held = ""  # what a later piece may still change
        self._num_calls = 0
        self._steps = {
            _HarmonyState.BETWEEN: self._read_between,
            _HarmonyState.HEADER: self._read_header,
            _HarmonyState.BODY: self._read_body,
        }
        self._begin(start.prompt)

    @property
    def region(self) -> Region:
        if self._state is _HarmonyState.BODY:
            return self._region
        # A header is written freely. Before one, a forced answer may also begin without it.
        return Region.THINKING if self._state is _HarmonyState.HEADER else Region.CONTENT

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
        if self._state is _HarmonyState.HEADER:
            return Parsed() if _is_header(held, is_cut=True) else Parsed(_plain(held))
        if self._state is _HarmonyState.BETWEEN:
            return Parsed(held if held.strip() else "")
        self._state = _HarmonyState.BETWEEN
        return self._body(held)

    def _begin(self, prompt: str) -> None:
        """Take up the message that the prompt leaves open."""
        _, marker, message = prompt.rpartition(START)
        if not marker or any(end in message for end in ENDS):
            return
        header, marker, _ = message.partition(MESSAGE)
        if marker:
            self._open(header)
        elif CHANNEL in header or not header:
            self._state, self._held = _HarmonyState.HEADER, header

    def _read_between(self) -> Parsed:
        text = self._held.lstrip()
        stray = next((stray for stray in STRAYS if text.startswith(stray)), "")
        if stray:
            self._held = text.removeprefix(stray)
        elif any(text.startswith(marker) for marker in HEADER_STARTS):
            self._held, self._state = text.removeprefix(START), _HarmonyState.HEADER
        elif not any(marker.startswith(text) for marker in (*HEADER_STARTS, *STRAYS)):
            self._region, self._state = Region.CONTENT, _HarmonyState.BODY
        return Parsed()

    def _read_header(self) -> Parsed:
        header, marker, rest = split_at(self._held, (MESSAGE, START, *ENDS))
        if not marker:
            return Parsed()
        self._held = rest
        if marker == MESSAGE:
            self._open(header)
            return Parsed()
        self._state = _HarmonyState.HEADER if marker == START else _HarmonyState.BETWEEN
        return Parsed() if _is_header(header) else Parsed(_plain(header))

    def _open(self, header: str) -> None:
        """Begin the message of that header."""
        self._state = _HarmonyState.BODY
        recipient, channel = RECIPIENT.search(header), CHANNEL_NAME.search(header)
        if recipient and recipient[1] not in PEOPLE:
            self._region, self._tool = Region.CALL, recipient[1].removeprefix(FUNCTIONS)
        elif channel and channel[1] == "analysis":
            self._region = Region.THINKING
        else:
            self._region = Region.CONTENT

    def _read_body(self) -> Parsed:
        is_call = self._region is Region.CALL
        text, marker, rest = split_at(self._held, (START, *ENDS) if is_call else MARKERS)
        if is_call and not marker:
            return Parsed()
        self._held = f"{marker}{rest}" if marker == CHANNEL else rest
        part = self._body(text)
        if marker in (START, CHANNEL):
            self._state = _HarmonyState.HEADER
        elif marker in ENDS:
            self._state = _HarmonyState.BETWEEN
        return part

    def _body(self, text: str) -> Parsed:
        if self._region is Region.THINKING:
            return Parsed(thinking=text)
        return self._call(text) if self._region is Region.CALL else Parsed(text)

    def _call(self, text: str) -> Parsed:
        """The call, or its text as content if it is none: an answer is never blank."""
        arguments = json_object(text) if text.strip() else {}
        if arguments is None:
            log.warning("a tool call that cannot be read becomes content: %.200r", text)
            return Parsed(_plain(text))
        call = ToolCall(self._names.get(self._tool, self._tool), arguments, index=self._num_calls)
        self._num_calls += 1
        return Parsed(tool_calls=(call,))


def _is_header(text: str, *, is_cut: bool = False) -> bool:
    """Whether a text before no message is a header, which is dropped. `is_cut`: at the end."""
    words = ANY_MARKER.sub(" ", text).split()
    if is_cut and words and any(known.startswith(words[-1]) for known in HEADER_WORDS):
        words.pop()
    return all(word in HEADER_WORDS or word.startswith("to=") for word in words)


def _plain(text: str) -> str:
    return ANY_MARKER.sub("", text)


HARMONY_FAMILY = ParserFamily(
    HarmonyParser, markers=MARKERS, openings=(START, CHANNEL), reopens=True, thinks=True, calls=True
)
