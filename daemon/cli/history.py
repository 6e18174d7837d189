"""Which lines typed before come back at the prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import readline
except ImportError:  # a Python without line editing still has a prompt
    readline = None  # type: ignore[assignment]

LINES = 1000


@contextmanager
def kept(path: Path | None) -> Iterator[None]:
    """Takes the lines from `path`, and writes them back with the new ones; None keeps nothing."""
    if readline is None or path is None:
        yield
        return
    readline.set_history_length(LINES)
    with _warning(), suppress(FileNotFoundError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with _warning():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(path)


@contextmanager
def _warning() -> Iterator[None]:
    """A history that cannot be used is told, and is no reason to lose the conversation."""
    try:
        yield
    except OSError as error:
        print(f"Warning: no history of typed lines: {error}", file=sys.stderr)


def remember(on: bool) -> None:
    """Whether lines typed from now on are kept."""
    if readline is not None:
        readline.set_auto_history(on)
