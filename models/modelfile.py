"""What a Modelfile contains: its grammar, as in CONTRACT 7.1.

Two additions take what Ollama's own grammar cannot express, a text in which a line ends with three
quotes. Where they are not paired and no command follows, the value goes on; and a comment may state
how many lines the next value has, which decides every other case.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .errors import InvalidModelfile

COMMANDS: Final = (
    *("from", "license", "template", "system", "adapter", "draft"),
    *("renderer", "parser", "parameter", "message", "requires"),
)
ROLES: Final = ("system", "user", "assistant")

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_END_OF_LINE = re.compile(r"\r\n?")
_COUNT = re.compile(r"# The next value has (\d+) lines\.")
_VERSION = re.compile(
    r"\d+(\.\d+(\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?"
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `key` is the name of a PARAMETER or the role of a MESSAGE."""

    name: str  # in lower case
    value: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Modelfile:
    """The commands of a Modelfile in their order; at least one is a FROM."""

    commands: tuple[Command, ...]

    def all(self, name: str) -> tuple[str, ...]:
        """The values of every command of that name."""
        return tuple(command.value for command in self.commands if command.name == name)

    def last(self, name: str) -> str:
        """The value of the last command of that name; "" if there is none."""
        return next(reversed(self.all(name)), "")

    def keyed(self, name: str) -> tuple[tuple[str, str], ...]:
        """Key and value of every command of that name."""
        return tuple((c.key, c.value) for c in self.commands if c.name == name)


def decode_modelfile(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; raises InvalidModelfile."""
    mark, encoding = next((b for b in _BOMS if data.startswith(b[0])), (b"", "utf-8"))
    try:
        return data.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError:
        raise InvalidModelfile("the Modelfile is not text in UTF-8 or UTF-16") from None


def normalize_newlines(text: str) -> str:
    """`text` with a line feed at the end of each line, as every model expects it."""
    return _END_OF_LINE.sub("\n", text)


def parse_modelfile(text: str) -> Modelfile:
    """The commands in `text`; raises InvalidModelfile with the contract's texts."""
    modelfile = Modelfile(tuple(_commands(text)))
    if not modelfile.all("from"):
        raise InvalidModelfile("no FROM line")
    requires = modelfile.last("requires")
    if requires and not _VERSION.fullmatch(requires.removeprefix("v")):
        raise InvalidModelfile("requires must be a valid semver (e.g. 0.14.0)")
    return modelfile


def state_lines(text: str) -> str:
    """The comment that states how many lines a command has."""
    return f"# The next value has {text.count(chr(10)) + 1} lines."


@dataclass(slots=True)
class _LineCursor:
    """A position in the lines of a Modelfile."""

    lines: list[str]
    next: int = 0  # index of the next line, and so the number of the last one
    stated: int = 0  # lines of the next value, as a comment states them; 0: no comment does

    def read(self) -> str:
        """The next line that is neither empty nor a comment, from its first word; "" at the end."""
        while self.next < len(self.lines):
            line = self.lines[self.next].lstrip()
            self.next += 1
            if line and not line.startswith("#"):
                return line
            if count := _COUNT.fullmatch(line.rstrip()):
                self.stated = int(count[1])
        return ""

    def read_value(self, start: str) -> str:
        """The value that begins with `start`, the rest of the last line."""
        quote, stated = _quote(start), self.next + self.stated - 1
        is_stated, self.stated = self.stated > 0 and bool(quote), 0
        if is_stated and (value := _unquoted(self._join(start, stated), quote)) is not None:
            self.next = stated
            return value
        end = self._find_end(start, quote) if quote else self.next
        value = _unquoted(self._join(start, end), quote)
        if value is None:
            raise InvalidModelfile("unexpected EOF")
        self.next = end
        return value

    def _join(self, start: str, end: int) -> str:
        return "\n".join((start, *self.lines[self.next : end])).strip()

    def _find_end(self, start: str, quote: str) -> int:
        """The index of the first line behind a quoted value that begins with `start`."""
        num_quotes, first, line = start.count(quote), 0, start
        is_closed = _is_closed(start.strip(), quote)
        for end in range(self.next, len(self.lines)):
            if is_closed and (quote == '"' or num_quotes % 2 == 0 or self._has_command(end)):
                return end
            first = first or (end if is_closed else 0)
            line = self.lines[end]
            num_quotes += line.count(quote)
            is_closed = line.rstrip().endswith(quote)
        return first if first and not is_closed else len(self.lines)

    def _has_command(self, index: int) -> bool:
        """Whether the next line from `index` on that says something is a command."""
        for line in self.lines[index:]:
            words = line.split(maxsplit=1)
            if words and not words[0].startswith("#"):
                return words[0].lower() in COMMANDS
        return True


def _commands(text: str) -> Iterator[Command]:
    lines = _LineCursor(normalize_newlines(text).split("\n"))
    while line := lines.read():
        number = lines.next
        name, rest = _name(number, line)
        key = ""
        if name in ("parameter", "message"):
            key, rest = _split_word(rest)
        if name == "message" and key not in ROLES:
            raise InvalidModelfile(f"(line {number}): message role must be one of {_any_of(ROLES)}")
        yield Command(name, lines.read_value(rest), key)


def _name(number: int, line: str) -> tuple[str, str]:
    """The command's name, and the rest of its line."""
    name, rest = _split_word(line)
    if name.lower() not in COMMANDS or not rest:
        raise InvalidModelfile(f"(line {number}): command must be one of {_any_of(COMMANDS)}")
    return name.lower(), rest


def _split_word(line: str) -> tuple[str, str]:
    """The first word of a line, and the rest."""
    first, *rest = line.split(maxsplit=1) or [""]
    return first, "".join(rest)


def _quote(text: str) -> str:
    """The quote that a value begins with; "" if there is none."""
    return next((quote for quote in ('"""', '"') if text.startswith(quote)), "")


def _unquoted(text: str, quote: str) -> str | None:
    """`text` without its quotes, if it has any; None if the text or its end quote is missing."""
    if not quote:
        return text or None
    return text[len(quote) : -len(quote)] if _is_closed(text, quote) else None


def _is_closed(text: str, quote: str) -> bool:
    """Whether a text that begins with `quote` ends with another one."""
    return len(text) >= 2 * len(quote) and text.endswith(quote)


def _any_of(names: tuple[str, ...]) -> str:
    *first, last = (f'"{name}"' for name in names)
    return f"{', '.join(first)}, or {last}"
