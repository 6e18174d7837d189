"""How a file comes to be whole or not at all.

A partial is written under a name of its own, locked while its writer lives, and renamed when it is
complete. What a killed process leaves behind is not locked any more, so that `sweep` can tell it
from the work of a process that is still busy.
"""

import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Self

from .lock import abandoned

_PREFIX, _SUFFIX = ".outrider-", "-partial"


class Partial:
    """A file in the making, hashed as it is written; leaving the `with` block drops it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path, self._file = _create(folder)
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of what was written so far."""
        return f"sha256:{self._sha256.hexdigest()}"

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def flush(self) -> None:
        """Makes everything written so far readable at `path`."""
        self._file.flush()

    def commit(self, final: Path) -> None:
        """Puts the complete file at `final`, replacing what is there; a crash cannot halve it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        final.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.replace(final)
        _sync_folder(final.parent)

    def close(self) -> None:
        """Removes the file, unless it was committed; may be called more than once."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(folder: Path) -> None:
    """Removes the partials whose process has died; those of living ones stay."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if abandoned(path):
            path.unlink(missing_ok=True)


def _create(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, os.fdopen(descriptor, "wb")
        os.close(descriptor)  # a sweep came between making the file and locking it


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
