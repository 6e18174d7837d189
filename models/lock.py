"""How processes exclude each other: advisory locks, released when their process ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.05  # seconds between two tries for a lock


@contextmanager
def locked(path: Path, *, patience_s: float | None = None) -> Iterator[int]:
    """Waits for the lock on `path` (a file or folder); yields the descriptor that holds it.

    Raises BlockingIOError if another process still has it after `patience_s`; None waits for ever.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if patience_s is not None:
            _try_for(descriptor, patience_s)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_for(descriptor: int, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(_POLL_S)


def abandoned(path: Path) -> bool:
    """Whether the process that locked `path` has ended; False if `path` does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
