"""Where the contents of models are stored: one file each, named by its sha256 (CONTRACT 6.1)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import DigestMismatch
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

    def has(self, digest: str, size_bytes: int | None = None) -> bool:
        """Whether the blob is stored, with that size if one is given; raises InvalidDigest."""
        path = self.path(digest)
        return path.is_file() and size_bytes in (None, path.stat().st_size)

    def add_bytes(self, data: bytes) -> Blob:
        with self.partial() as partial:
            partial.write(data)
            return self.commit(partial)

    def partial(self) -> Partial:
        """A new file: write to it, then `commit` it as a blob."""
        return Partial(self.root)

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
