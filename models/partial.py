"""How a file is written atomically.

A partial file has a name of its own, is locked while its process lives, and is renamed when it is
complete. The partial of a killed process is no longer locked: `sweep` removes those.
"""

import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Self

from .lock import abandoned

_CHUNK_BYTES = 1 << 20  # read at a time
_PREFIX, _SUFFIX = ".outrider-", "-partial"


class Partial:
    """A file being written and hashed; leaving the `with` block removes it unless committed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path, self._file = _create(folder)
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the bytes written so far."""
        return f"sha256:{self._sha256.hexdigest()}"

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def flush(self) -> None:
        """Makes the bytes written so far readable at `path`."""
        self._file.flush()

    @property
    def lock(self) -> int:
        """The descriptor that locks the file; a child process that writes it inherits it."""
        return self._file.fileno()

    def reread(self) -> None:
        """Hashes what another process has written to `path`."""
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                self._sha256.update(chunk)
                self.size_bytes += len(chunk)

    def commit(self, final: Path) -> None:
        """Renames the file to `final`, replacing an old one; a crash leaves one of them whole."""
        self._file.flush()
        os.fsync(self._file.fileno())
        final.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.replace(final)
        _sync_folder(final.parent)

    def close(self) -> None:
        """Removes the file unless it was committed; may be called again."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(folder: Path) -> None:
    """Removes the partials of processes that have ended."""
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
        os.close(descriptor)  # a sweep removed the file before it was locked


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
