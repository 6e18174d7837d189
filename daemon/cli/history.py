"""How is the prompt's history of lines kept between sessions?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import readline
except ImportError:  # Python was built without line editing
    readline = None  # type: ignore[assignment]

LINES = 1000  # kept in the history file


@contextmanager
def persisted(path: Path | None) -> Iterator[None]:
    """Reads the history from `path`, and writes it back on exit; None keeps no history."""
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
    """Turns an unusable history file into a warning."""
    try:
        yield
    except OSError as error:
        print(f"Warning: no history of typed lines: {error}", file=sys.stderr)


def set_recording(on: bool) -> None:
    """Whether lines typed from now on are added to the history."""
    if readline is not None:
        readline.set_auto_history(on)
