"""How does a file of settings read? One NAME=VALUE a line, as in systemd's EnvironmentFile."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~*-]+")  # needs no quotes
COMMENTS = ("#", ";")


def parse_environment(text: str) -> dict[str, str]:
    """The variables of a file; a line that is none is passed over, as systemd does.

    Within quotes a backslash keeps the next character from ending the value (systemd.exec(5)).
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        name = name.strip()
        if equals and NAME.fullmatch(name) and not line.lstrip().startswith(COMMENTS):
            found[name] = _unquote(value.strip())
    return found


def merge_environment(text: str, settings: Mapping[str, str]) -> str:
    """The text with these variables: lines that name them are replaced, all others stay."""
    rest, lines = dict(settings), []
    for line in text.splitlines():
        name = line.partition("=")[0].strip()
        lines.append(_line(name, rest.pop(name)) if name in rest else line)
    lines += [_line(name, value) for name, value in rest.items()]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, value: str) -> str:
    """Raises ValueError for a value of several lines, which no such file can hold."""
    if "\n" in value or "\r" in value:
        raise ValueError(f"{name} has a line break, which a file of settings cannot hold")
    if PLAIN.fullmatch(value) or not value:
        return f"{name}={value}"
    escaped = re.sub(r'([\\"`$])', r"\\\1", value)
    return f'{name}="{escaped}"'


def _unquote(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value
