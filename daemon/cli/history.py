"""In which form are typed lines kept between sessions? One file for both ways of reading lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LINES = 1000  # kept in the history file
QUOTES = '"""'
QUOTABLE = ("", "/set system ")  # what may stand before the quotes


def is_unfinished(text: str) -> bool:
    """Whether a message begins with triple quotes and does not end with them yet."""
    start = next((start for start in QUOTABLE if text.startswith(start + QUOTES)), None)
    if start is None:
        return False
    return not text.removeprefix(start + QUOTES).rstrip().endswith(QUOTES)


def entries(lines: Sequence[str]) -> list[str]:
    """What was typed, oldest first; the lines between triple quotes belong together."""
    found: list[str] = []
    for line in lines:
        if found and is_unfinished(found[-1]):
            found[-1] += "\n" + line
        elif line:
            found.append(line)
    return found


def lines_of(entry: str) -> str:
    """An entry for the file; several lines get the quotes that keep them together."""
    has_quotes = any(entry.startswith(start + QUOTES) for start in QUOTABLE)
    return entry if "\n" not in entry or has_quotes else f"{QUOTES}{entry}{QUOTES}"


class HistoryFile:
    """The lines in a file; every failure is a warning, since nobody types for the history."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[str]:
        """The newest entries, the oldest one first."""
        with warning():
            if not self.path.exists():
                return []
            lines = self.path.read_text("utf-8", errors="replace").splitlines()
            if len(lines) > 2 * LINES:
                self._replace(lines[-LINES:])
            return entries(lines[-LINES:])
        return []

    def append(self, entry: str) -> None:
        """Adds an entry at once, so that it survives a terminal that is closed."""
        with warning():
            self.make_folder()
            with self.path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(lines_of(entry) + "\n")

    def make_folder(self) -> None:
        """Makes the folder of the file. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _replace(self, lines: Sequence[str]) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        fresh.replace(self.path)


@contextmanager
def warning() -> Iterator[None]:
    """Turns an unusable history file into a warning."""
    try:
        yield
    except OSError as error:
        print(f"Warning: no history of typed lines: {error}", file=sys.stderr)
