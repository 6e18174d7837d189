"""What a Modelfile asks for: its grammar, read as Ollama reads it (CONTRACT 7.1)."""

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
    """One instruction; `word` is the name of a PARAMETER or the role of a MESSAGE."""

    name: str  # in lower case
    value: str
    word: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The instructions of a Modelfile, in its order; there is a FROM among them."""

    commands: tuple[Command, ...]

    def all(self, name: str) -> tuple[str, ...]:
        """The values of every instruction of that name."""
        return tuple(command.value for command in self.commands if command.name == name)

    def last(self, name: str) -> str:
        """The value that counts where only one can; "" if there is none."""
        return next(reversed(self.all(name)), "")

    def worded(self, name: str) -> tuple[tuple[str, str], ...]:
        """Word and value of every instruction of that name."""
        return tuple((c.word, c.value) for c in self.commands if c.name == name)


def decode_modelfile(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 that says so; raises InvalidModelfile."""
    mark, encoding = next((b for b in _BOMS if data.startswith(b[0])), (b"", "utf-8"))
    try:
        return data.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError:
        raise InvalidModelfile("the Modelfile is not text in UTF-8 or UTF-16") from None


def parse_modelfile(text: str) -> Recipe:
    """The instructions in `text`; raises InvalidModelfile with the contract's texts."""
    recipe = Recipe(tuple(_commands(text)))
    if not recipe.all("from"):
        raise InvalidModelfile("no FROM line")
    requires = recipe.last("requires")
    if requires and not _VERSION.fullmatch(requires.removeprefix("v")):
        raise InvalidModelfile("requires must be a valid semver (e.g. 0.14.0)")
    return recipe


def _commands(text: str) -> Iterator[Command]:
    lines = enumerate(_LINE.findall(text), start=1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, rest = _name(number, line)
        word = ""
        if name in ("parameter", "message"):
            word, rest = _cut(rest)
        if name == "message" and word not in ROLES:
            raise InvalidModelfile(f"(line {number}): message role must be one of {_any_of(ROLES)}")
        yield Command(name, _value(rest, lines), word)


def _name(number: int, line: str) -> tuple[str, str]:
    """The instruction, and what follows it."""
    name, rest = _cut(line)
    if name.lower() not in COMMANDS or not rest:
        raise InvalidModelfile(f"(line {number}): command must be one of {_any_of(COMMANDS)}")
    return name.lower(), rest


def _cut(line: str) -> tuple[str, str]:
    """The first word of a line, and the rest with its end of line."""
    first, *rest = line.split(maxsplit=1) or [""]
    return first, "".join(rest)


def _value(start: str, lines: Iterator[tuple[int, str]]) -> str:
    """The value that begins with `start`; a quote goes on until a line ends with its end."""
    text = start
    while (value := _unquoted(text.strip())) is None:
        _, line = next(lines, (0, ""))
        if not line:
            raise InvalidModelfile("unexpected EOF")
        text += line
    return value


def _unquoted(text: str) -> str | None:
    """What stands between the quotes, if there are some; None if more has to come."""
    if not text:
        raise InvalidModelfile("unexpected EOF")
    quote = next((quote for quote in ('"""', '"') if text.startswith(quote)), "")
    if not quote:
        return text
    is_whole = len(text) >= 2 * len(quote) and text.endswith(quote)
    return text[len(quote) : -len(quote)] if is_whole else None


def _any_of(names: tuple[str, ...]) -> str:
    *first, last = (f'"{name}"' for name in names)
    return f"{', '.join(first)}, or {last}"
