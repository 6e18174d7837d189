"""How does the prompt of `run` read lines in a terminal without line editing of its own?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from .history import LINES, HistoryFile, warning

try:
    import readline
except ImportError:  # Python was built without line editing
    readline = None  # type: ignore[assignment]

SIMPLE_TERMINALS = ("", "dumb", "unknown")  # values of TERM: terminals that cannot move the cursor


class LineReader(Protocol):
    """Where the lines of a conversation come from."""

    def read(self, prompt: str) -> str:
        """Shows the prompt and returns a line, or several at once. Raises EOFError and
        KeyboardInterrupt for the keys Ctrl-D and Ctrl-C."""
        ...

    def set_recording(self, on: bool) -> None:
        """Whether lines typed from now on are added to the history."""
        ...


class PlainReader:
    """Reads with input(), which Readline edits where Python has it."""

    def read(self, prompt: str) -> str:
        """One line."""
        return input(prompt)

    def set_recording(self, on: bool) -> None:
        """Readline keeps lines or not."""
        if readline is not None:
            readline.set_auto_history(on)


def can_edit() -> bool:
    """Whether this terminal can show an editor of lines."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return is_terminal and os.environ.get("TERM", "").lower() not in SIMPLE_TERMINALS


@contextmanager
def plain_reader(history: HistoryFile | None) -> Iterator[PlainReader]:
    """A reader whose history is read now, and written back on exit; None keeps no history."""
    if readline is None or history is None:
        yield PlainReader()
        return
    readline.set_history_length(LINES)
    with warning(), suppress(FileNotFoundError):
        readline.read_history_file(history.path)
    try:
        yield PlainReader()
    finally:
        with warning():
            history.make_folder()
            readline.write_history_file(history.path)
