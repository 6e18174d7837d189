"""Thoughts and tool calls in the output of a model with a Go template (CONTRACT 8.2, 8.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto

from ..conversation import Tool, ToolCall
from ..tool_definition import mapping, name_of, schema_of
from .markers import split_at
from .parser import OutputParser, OutputStart, Parsed, ParserFamily, Region
from .thinking import thinking_then
from .values import json_object

BARE_TAGS = ("{", "[")  # calls without a marker: they count only at the start of the output
ARGUMENTS = ("arguments", "parameters")  # the keys of a call's arguments
NAMES = ("name", "tool_name", "function")  # the keys of a call's tool
NOT_ARGUMENTS = (*NAMES, *ARGUMENTS, "id", "type")  # keys of a call, in an object that is both
WORD = re.compile(r"[\w.:/-]+")  # what may be the name of a tool
# The start of a bare call, and the first character in its object, which may be still to come.
BARE_START = re.compile(r"[\s\[]*(?:\{\s*(.?)|$())", re.DOTALL)
OUTSIDE, INSIDE = re.compile(r'["{}]'), re.compile(r'["\\]')  # of a JSON string: what counts there

Schema = Mapping[str, object]  # of the parameters of a tool


class _GenericState(Enum):
    CONTENT = auto()  # looking for the tag
    CALL = auto()  # after the tag
    AFTER = auto()  # after a call, where separators and closing tags are dropped
    PLAIN = auto()  # no call can come any more


class GenericParser:
    """An OutputParser of calls. What looks like a call and is none becomes content."""

    def __init__(self, tag: str, tools: Sequence[Tool]) -> None:
        self._tag = tag or BARE_TAGS[0]
        self._is_bare = self._tag in BARE_TAGS
        self._closers = _closing_tags(self._tag)
        self._tools = {name: schema_of(tool) for tool in tools if (name := name_of(tool))}
        self._state = _GenericState.CONTENT if self._tools else _GenericState.PLAIN
        self._held = ""  # what is not decided; in a call, the text after the tag
        self._opening = ""  # the tag before the held text of a call
        self._object = _ObjectScan()  # where the JSON object of the call ends
        self._in_array = self._has_content = False
        self._count = 0

    @property
    def region(self) -> Region:
        return Region.CALL if self._state is _GenericState.CALL else Region.CONTENT

    def push(self, text: str) -> Parsed:
        self._held += text
        parsed = Parsed()
        while self._held and (part := self._step()) is not None:
            parsed += part
        return parsed

    def finish(self) -> Parsed:
        held, self._held = self._held, ""
        if self._state is not _GenericState.CALL:
            is_after = self._state is _GenericState.AFTER
            return Parsed() if is_after else Parsed(held)
        body = held.rstrip()
        for closer in self._closers:
            body = body.removesuffix(closer).rstrip()
        call = self._read_cut_call(body)
        return self._found(call) if call else Parsed(self._opening + held)

    def _step(self) -> Parsed | None:
        """The next certain part of the held text; None if more text decides."""
        match self._state:
            case _GenericState.CONTENT:
                return self._begin_bare() if self._is_bare else self._find_tag()
            case _GenericState.CALL:
                return self._read()
            case _GenericState.AFTER:
                return self._go_on()
        content, self._held = self._held, ""
        return Parsed(content)

    def _find_tag(self) -> Parsed | None:
        content, tag, rest = split_at(self._held, (self._tag,))
        is_blank = not self._has_content and not content.strip()
        if not tag and (is_blank or not content):
            return None
        self._held, self._has_content = rest, self._has_content or not is_blank
        if tag:
            self._enter(tag)
        return Parsed("" if is_blank else content)

    def _begin_bare(self) -> Parsed | None:
        """Whether the output begins with a JSON object, or a list of them."""
        found = BARE_START.match(self._held)
        if found and not found[1]:
            return None
        is_object = bool(found and found[1] in '"}')
        self._state = _GenericState.CALL if is_object else _GenericState.PLAIN
        return Parsed()

    def _enter(self, tag: str) -> None:
        self._state, self._opening, self._object = _GenericState.CALL, tag, _ObjectScan()

    def _read(self) -> Parsed | None:
        """The call in the held text once its object is complete, or else the text as content."""
        end = self._object.find_end(self._held)
        if end is None:
            return None
        start = self._object.start
        before, body = self._held[:start], self._held[start:end]
        call = _read_call(before, body, self._tools)
        rest, text = self._held[end:], self._opening + self._held[:end]
        self._held = rest
        if call:
            self._in_array |= "[" in before
            return self._found(call)
        self._leave()
        return Parsed(text)

    def _read_cut_call(self, body: str) -> ToolCall | None:
        """A call whose last brace is missing, or one without an object of arguments."""
        _, brace, inside = body.partition("{")
        if brace:
            return _read_call("", f"{{{inside}}}", self._tools) if body.endswith("}") else None
        tool = self._tools.get(body.strip())
        is_call = tool is not None and not tool.get("required")
        return ToolCall(body.strip(), {}) if is_call else None

    def _found(self, call: ToolCall) -> Parsed:
        self._state, self._has_content = _GenericState.AFTER, True
        self._count += 1
        return Parsed(tool_calls=(ToolCall(call.name, call.arguments, index=self._count - 1),))

    def _leave(self) -> None:
        self._has_content, self._in_array = True, False
        is_over = self._is_bare
        self._state = _GenericState.PLAIN if is_over else _GenericState.CONTENT

    def _go_on(self) -> Parsed | None:
        """Past a call: drop what closes it, begin another, or return to the content."""
        self._held = self._held.lstrip()
        if not self._held:
            return None
        known = (*self._closers, self._tag) if not self._is_bare else self._closers
        found = next((marker for marker in known if self._held.startswith(marker)), None)
        if found is None and any(marker.startswith(self._held) for marker in known):
            return None
        if found is not None:
            self._held = self._held.removeprefix(found)
            if found == self._tag:
                self._enter(found)
        elif self._held[0] == ";" or (self._in_array and self._held[0] in ",]"):
            self._in_array &= self._held[0] != "]"
            self._held = self._held[1:]
        elif self._held[0] == "{":
            self._enter("")
        else:
            self._leave()
        return Parsed()


class _ObjectScan:
    """Finds the end of the first JSON object in a text that grows; each character is read once."""

    def __init__(self) -> None:
        self.start = -1
        self._next = self._depth = 0
        self._in_string = False

    def find_end(self, text: str) -> int | None:
        """The index behind the object; None while it is open."""
        if self.start < 0:
            self.start = text.find("{", self._next)
            self._next = self.start if self.start >= 0 else len(text)
        while self.start >= 0 and (found := self._find(text)):
            self._next = found.end()
            match found.group():
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._next += 1  # the escaped character, which may not be there yet
                case "{":
                    self._depth += 1
                case "}":
                    self._depth -= 1
                    if not self._depth:
                        return self._next
        self._next = max(self._next, len(text))
        return None

    def _find(self, text: str) -> re.Match[str] | None:
        return (INSIDE if self._in_string else OUTSIDE).search(text, self._next)


def _read_call(before: str, body: str, tools: Mapping[str, Schema]) -> ToolCall | None:
    """The call of a known tool, named before the object or in it. None if it is no call."""
    value = json_object(body)
    if value is None:
        return None
    named = [word for word in WORD.findall(before) if word in tools]
    if named:
        return _call(named[-1], _arguments_in(value, tools[named[-1]]))
    nested = value.get("function")
    if isinstance(nested, dict):
        value = nested
    name = next((value[key] for key in NAMES if _is_tool(value.get(key), tools)), None)
    if isinstance(name, str):
        given = next((value[key] for key in ARGUMENTS if key in value), None)
        if given is None:
            given = {key: item for key, item in value.items() if key not in NOT_ARGUMENTS}
        return _call(name, given)
    (only, *others) = value or ("",)
    return _call(only, value[only]) if not others and only in tools else None


def _arguments_in(value: dict[str, object], schema: Schema) -> object:
    """The arguments that an object holds, or is."""
    known = mapping(schema.get("properties"))
    inner = (value[key] for key in ARGUMENTS if key in value and key not in known)
    return next(inner, value)


def _call(name: str, arguments: object) -> ToolCall | None:
    """The call; the arguments may be JSON in a string."""
    given = json_object(arguments) if isinstance(arguments, str) else arguments
    return ToolCall(name, given) if isinstance(given, dict) else None


def _is_tool(name: object, tools: Mapping[str, Schema]) -> bool:
    return isinstance(name, str) and name in tools


def _closing_tags(tag: str) -> tuple[str, ...]:
    """The texts that close a call after such a tag: </x> after <x>, [/X] after [X]."""
    fence = ("```",) if "```" in tag else ()
    if tag in BARE_TAGS or tag[0] not in "<[":
        return fence
    return (f"{tag[0]}/{tag[1:]}", *((f"<|/{tag[2:]}",) if tag.startswith("<|") else ()), *fence)


def _make(start: OutputStart) -> OutputParser:
    """A parser of the thought, if the template shows thoughts, and of the calls behind it."""
    calls = GenericParser(start.format.call_tag, start.tools)
    return thinking_then(start, calls) if start.format.think_open else calls


GENERIC_FAMILY = ParserFamily(_make, thinks=True, calls=True)
