"""Where the contents of models are stored: one file each, named by its sha256 (CONTRACT 6.1)."""

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import DigestMismatch, UnreadableStore, is_broken_link
from .manifest import Layer, check_digest
from .partial import Partial

_CHUNK_BYTES = 1 << 20  # copied at a time


@dataclass(frozen=True, slots=True)
class Blob:
    """A content by its digest, `sha256:<hex>`."""

    digest: str
    size_bytes: int

    @classmethod
    def of(cls, data: bytes) -> "Blob":
        """The blob of `data`, stored or not."""
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))

    def layer(self, media_type: str, source: str | None = None) -> Layer:
        """This blob as a layer of that type."""
        return Layer(media_type, self.digest, self.size_bytes, source)


class Blobs:
    """The blobs folder, created with the first blob."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """The path of the blob, stored or not; raises InvalidDigest."""
        return self.root / check_digest(digest).replace(":", "-").lower()

    def check_access(self) -> None:
        """Raises UnreadableStore if the folder is there and its files are out of reach."""
        try:
            os.stat(f"{self.root}/.")  # fails where the files of the folder would
        except FileNotFoundError as error:
            if is_broken_link(self.root):
                raise UnreadableStore.of(self.root, error) from error
        except OSError as error:
            raise UnreadableStore.of(self.root, error) from error

    def has(self, digest: str, size_bytes: int | None = None) -> bool:
        """Whether the blob is stored, with that size if one is given.

        Raises InvalidDigest and UnreadableStore.
        """
        path = self.path(digest)
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UnreadableStore.of(path, error) from error
        return stat.S_ISREG(status.st_mode) and size_bytes in (None, status.st_size)

    def claim(self, digest: str, size_bytes: int | None = None) -> bool:
        """Whether the blob is stored; if so, pruning spares it for the time of a new one.

        For who relies on a stored blob before the manifest is written. A blob of another user
        cannot be made younger: then the next check may find it missing.
        """
        if not self.has(digest, size_bytes):
            return False
        with suppress(PermissionError, FileNotFoundError):
            os.utime(self.path(digest))
        return self.has(digest, size_bytes)

    def add_bytes(self, data: bytes) -> Blob:
        with self.partial() as partial:
            partial.write(data)
            return self.commit(partial)

    def partial(self) -> Partial:
        """A new file: write to it, then `commit` it as a blob.

        It lies beside the blobs folder, from which a starting Ollama removes what is no blob; but
        inside it if that folder is a file system of its own.
        """
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        parent = self.root.parent
        is_same = parent.stat().st_dev == self.root.stat().st_dev
        return Partial(parent if is_same else self.root)

    def commit(self, partial: Partial, *, expect: str | None = None) -> Blob:
        """Stores the complete `partial` as a blob; raises DigestMismatch if it is not `expect`."""
        blob = Blob(partial.digest, partial.size_bytes)
        if expect is not None and self.path(expect) != self.path(blob.digest):
            raise DigestMismatch(expect, blob.digest)
        if not self.has(blob.digest, blob.size_bytes):
            partial.commit(self.path(blob.digest))
        return blob


def copy(source: IO[bytes], target: Partial, on_bytes: Callable[[int], None] | None = None) -> None:
    """Copies `source` in chunks; `on_bytes` gets the size of each, and may raise to stop."""
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
