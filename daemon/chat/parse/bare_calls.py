"""Is an output as a whole a tool call in JSON, without a marker that says so?"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..conversation import Tool
from ..tool_definition import name_of
from .call_grammar import object_grammar
from .parser import ContentParser, OutputParser, OutputStart, Parsed, ParserFamily, Region
from .thinking import CLOSE, OPEN, thinking_then
from .tool_calls import split_json_calls

# What a call begins with, without blanks, besides its name.
HEADS = ('"type":"function"', '"function":', '"parameters":', '"arguments":', '"id":')
LONGEST_HEAD = 400  # characters, blanks included: more of an output is not looked at

_BLANKS = re.compile(r"\s+")


class BareCallParser:
    """An OutputParser of calls that are the first thing in an output.

    The calls must be of tools that the request offers, because JSON may also be what the user asked
    for. Any other output, and the text after the calls, goes to the inner parser.
    """

    def __init__(self, names: Iterable[str], inner: OutputParser) -> None:
        """`names`: of the tools that the request offers."""
        self._names = frozenset(names)
        self._inner = inner
        self._held: list[str] = []
        self._undecided = bool(self._names)
        self._head = ""  # the start of the held text

    @property
    def region(self) -> Region:
        """A call is only known as one at its end, so the rules of content apply to it."""
        return self._inner.region

    def push(self, text: str) -> Parsed:
        if not self._undecided:
            return self._inner.push(text)
        self._held.append(text)
        if len(self._head) >= LONGEST_HEAD:
            return Parsed()
        self._head = (self._head + text).lstrip()[:LONGEST_HEAD]
        return Parsed() if self._may_be_call(self._head) else self._pass_on()

    def finish(self) -> Parsed:
        if not self._undecided:
            return self._inner.finish()
        text = "".join(self._held)
        calls, rest = split_json_calls(text)
        if not calls or any(call.name not in self._names for call in calls):
            return self._pass_on() + self._inner.finish()
        self._undecided, self._held = False, []
        return Parsed(tool_calls=tuple(calls)) + self._inner.push(rest) + self._inner.finish()

    def _pass_on(self) -> Parsed:
        """The output is no call."""
        held, self._held, self._undecided = "".join(self._held), [], False
        return self._inner.push(held)

    def _may_be_call(self, head: str) -> bool:
        start = _BLANKS.sub("", head).replace("'", '"').removeprefix("[")
        heads = (*(f'"name":"{_BLANKS.sub("", name)}"' for name in self._names), *HEADS)
        return any(("{" + h).startswith(start) or start.startswith("{" + h) for h in heads)


def tool_names(tools: Iterable[Tool]) -> frozenset[str]:
    """The names of tools, of those that have one."""
    return frozenset(name for tool in tools if (name := name_of(tool)))


def _make(start: OutputStart) -> OutputParser:
    return thinking_then(start, BareCallParser(tool_names(start.tools), ContentParser()))


JSON_FAMILY = ParserFamily(
    _make,
    markers=(OPEN, CLOSE),
    openings=(OPEN,),
    thinks=True,
    calls=True,
    call_grammar=object_grammar(between="\n"),
)
