"""What a Modelfile contains: its grammar, parsed as Ollama does (CONTRACT 7.1)."""

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
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
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


def parse_modelfile(text: str) -> Modelfile:
    """The commands in `text`; raises InvalidModelfile with the contract's texts."""
    modelfile = Modelfile(tuple(_commands(text)))
    if not modelfile.all("from"):
        raise InvalidModelfile("no FROM line")
    requires = modelfile.last("requires")
    if requires and not _VERSION.fullmatch(requires.removeprefix("v")):
        raise InvalidModelfile("requires must be a valid semver (e.g. 0.14.0)")
    return modelfile


def _commands(text: str) -> Iterator[Command]:
    lines = enumerate(_LINE.findall(text), start=1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, rest = _name(number, line)
        key = ""
        if name in ("parameter", "message"):
            key, rest = _split_word(rest)
        if name == "message" and key not in ROLES:
            raise InvalidModelfile(f"(line {number}): message role must be one of {_any_of(ROLES)}")
        yield Command(name, _value(rest, lines), key)


def _name(number: int, line: str) -> tuple[str, str]:
    """The command's name, and the rest of its line."""
    name, rest = _split_word(line)
    if name.lower() not in COMMANDS or not rest:
        raise InvalidModelfile(f"(line {number}): command must be one of {_any_of(COMMANDS)}")
    return name.lower(), rest


def _split_word(line: str) -> tuple[str, str]:
    """The first word of a line, and the rest with its line ending."""
    first, *rest = line.split(maxsplit=1) or [""]
    return first, "".join(rest)


def _value(start: str, lines: Iterator[tuple[int, str]]) -> str:
    """The value that begins with `start`; a quoted one extends to the line with the end quote."""
    text = start
    while (value := _unquoted(text.strip())) is None:
        _, line = next(lines, (0, ""))
        if not line:
            raise InvalidModelfile("unexpected EOF")
        text += line
    return value


def _unquoted(text: str) -> str | None:
    """`text` without its quotes, if it has any; None if the end quote is missing."""
    if not text:
        raise InvalidModelfile("unexpected EOF")
    quote = next((quote for quote in ('"""', '"') if text.startswith(quote)), "")
    if not quote:
        return text
    is_closed = len(text) >= 2 * len(quote) and text.endswith(quote)
    return text[len(quote) : -len(quote)] if is_closed else None


def _any_of(names: tuple[str, ...]) -> str:
    *first, last = (f'"{name}"' for name in names)
    return f"{', '.join(first)}, or {last}"
