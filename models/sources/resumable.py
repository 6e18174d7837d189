"""How an unfinished download is kept on disk, so that it goes on after a restart.

The file is `blobs/.outrider-<key>-download`: the content, and behind it a trailer that says how
much of each part has arrived. The trailer is cut off when the content is complete, so that there is
never a second file to lose. A process that writes the file holds a lock on it.
"""

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_PREFIX: Final = ".outrider-"
_SUFFIX: Final = "-download"
_HEAD: Final = struct.Struct("<8sQQ")  # magic, size of the content, size of a part
_COUNT: Final = struct.Struct("<Q")  # bytes of one part that have arrived
_MAGIC: Final = b"outrider"
_HASH_BYTES: Final = 1 << 20  # read at a time
_ABANDONED_S: Final = 24 * 3600.0  # seconds after which a download that nobody continues is removed


@dataclass(slots=True)
class Part:
    """A range of the content, of which the first `done_bytes` have arrived."""

    index: int
    start: int
    size_bytes: int
    done_bytes: int = 0

    @property
    def is_done(self) -> bool:
        return self.done_bytes == self.size_bytes

    @property
    def position(self) -> int:
        """Where the next byte belongs."""
        return self.start + self.done_bytes


class ResumableFile:
    """A locked file that is filled part by part; the methods block, so call them in a thread."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size_bytes = 0
        self.parts: list[Part] = []
        self.was_resumed = False  # some content was there before
        self.digest = ""  # `sha256:<hex>` of the whole content, once it is known
        self._descriptor = descriptor
        self._sha256 = hashlib.sha256()
        self._hashed_bytes = 0
        self._is_hash_stale = False  # bytes that were hashed are written a second time

    @classmethod
    def lock(cls, path: Path) -> Self | None:
        """The file at `path`, created if there is none; None while another holds it."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return cls(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)  # it is locked, or was renamed or removed before the lock was there
        return None

    def plan(self, size_bytes: int, part_bytes: int) -> None:
        """Takes up what an earlier run left for a content of that size, else starts anew."""
        self.size_bytes = size_bytes
        known = self._read_trailer(size_bytes)
        if known is None:
            self.restart(part_bytes)
            return
        part_bytes, counts = known
        self.parts = list(_divide(size_bytes, part_bytes))
        for part, count in zip(self.parts, counts, strict=True):
            part.done_bytes = count
        self.was_resumed = self.done_bytes > 0

    def restart(self, part_bytes: int) -> None:
        """Forgets the content."""
        self.parts = list(_divide(self.size_bytes, part_bytes))
        self.was_resumed = False
        self.digest, self._is_hash_stale = "", True
        os.ftruncate(self._descriptor, 0)
        trailer = _HEAD.pack(_MAGIC, self.size_bytes, part_bytes)
        os.pwrite(self._descriptor, trailer + bytes(_COUNT.size * len(self.parts)), self.size_bytes)

    @property
    def done_bytes(self) -> int:
        """How much has arrived."""
        return sum(part.done_bytes for part in self.parts)

    def write(self, part: Part, chunks: Sequence[bytes]) -> None:
        """Adds to a part; `chunks` must not be more than is missing of it."""
        position, data = part.position, chunks
        while data:
            written = os.pwritev(self._descriptor, data, position)
            position += written
            data = _drop(data, written)
        self._set_done(part, position - part.start)

    def forget(self, part: Part) -> None:
        """Drops what has arrived of a part."""
        self._is_hash_stale = True
        self._set_done(part, 0)

    def hash_on(self, most_bytes: int) -> int:
        """Hashes up to `most_bytes` more of the content that has arrived without a gap.

        Returns how many bytes were hashed. The bytes are read back from the file: what is hashed is
        what is installed.
        """
        if self._is_hash_stale:
            self._sha256, self._hashed_bytes, self._is_hash_stale = hashlib.sha256(), 0, False
        end = min(self._contiguous_bytes(), self._hashed_bytes + most_bytes)
        begin, buffer = self._hashed_bytes, memoryview(bytearray(_HASH_BYTES))
        while self._hashed_bytes < end:
            step = min(_HASH_BYTES, end - self._hashed_bytes)
            count = os.preadv(self._descriptor, [buffer[:step]], self._hashed_bytes)
            if not count:
                raise OSError(f"{self.path} became shorter while it was written")
            self._sha256.update(buffer[:count])
            self._hashed_bytes += count
        if self._hashed_bytes == self.size_bytes:
            self.digest = f"sha256:{self._sha256.hexdigest()}"
        return self._hashed_bytes - begin

    def flush(self) -> None:
        """Waits until what was written before is on the disk."""
        os.fdatasync(self._descriptor)

    def finish(self) -> None:
        """Cuts off the trailer, and waits until the content is on the disk."""
        os.ftruncate(self._descriptor, self.size_bytes)
        os.fsync(self._descriptor)

    def commit(self, final: Path) -> None:
        """Renames the finished file to `final`, unless that is there already."""
        if final.is_file() and final.stat().st_size == self.size_bytes:
            self.discard()
            return
        self.path.replace(final)
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Removes the file."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                self.path.unlink()

    def close(self) -> None:
        """Gives the lock back; the file stays for the next run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _contiguous_bytes(self) -> int:
        for part in self.parts:
            if not part.is_done:
                return part.position
        return self.size_bytes

    def _set_done(self, part: Part, count: int) -> None:
        part.done_bytes = count
        position = self.size_bytes + _HEAD.size + part.index * _COUNT.size
        os.pwrite(self._descriptor, _COUNT.pack(count), position)

    def _read_trailer(self, size_bytes: int) -> tuple[int, list[int]] | None:
        """Size of a part and what has arrived of each; None if the file is of no use."""
        length = os.fstat(self._descriptor).st_size
        if size_bytes and length == size_bytes:  # finished, but not renamed
            return size_bytes, [size_bytes]
        head = os.pread(self._descriptor, _HEAD.size, size_bytes)
        if len(head) < _HEAD.size:
            return None
        magic, told_bytes, part_bytes = _HEAD.unpack(head)
        if (magic, told_bytes) != (_MAGIC, size_bytes) or not part_bytes:
            return None
        sizes = [part.size_bytes for part in _divide(size_bytes, part_bytes)]
        data = os.pread(self._descriptor, len(sizes) * _COUNT.size, size_bytes + _HEAD.size)
        if len(data) != len(sizes) * _COUNT.size:
            return None
        counts = [count for (count,) in _COUNT.iter_unpack(data)]
        fits = all(count <= size for count, size in zip(counts, sizes, strict=True))
        return (part_bytes, counts) if fits else None


def download_path(blobs: Path, key: str) -> Path:
    """Where the download of `key` (hex digits) is kept."""
    return blobs / f"{_PREFIX}{key}{_SUFFIX}"


def kept_bytes(path: Path) -> int:
    """How much disk space an unfinished download takes already; 0 if there is none."""
    try:
        return path.stat().st_blocks * 512  # POSIX: st_blocks counts 512 bytes each
    except FileNotFoundError:
        return 0


def sweep_downloads(
    blobs: Path, *, older_than_s: float = _ABANDONED_S, keep: Collection[Path] = ()
) -> None:
    """Removes downloads that nobody works on and that were not touched for that long."""
    for path in set(blobs.glob(f"{_PREFIX}*{_SUFFIX}")) - set(keep):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < older_than_s:
                continue
            file = ResumableFile.lock(path)
            if file is not None:
                file.discard()
                file.close()


def _divide(size_bytes: int, part_bytes: int) -> Iterator[Part]:
    for index, start in enumerate(range(0, size_bytes, part_bytes)):
        yield Part(index, start, min(part_bytes, size_bytes - start))


def _drop(chunks: Sequence[bytes], count: int) -> Sequence[bytes]:
    """What is left of `chunks` after their first `count` bytes."""
    for index, chunk in enumerate(chunks):
        if count < len(chunk):
            return [chunk[count:], *chunks[index + 1 :]]
        count -= len(chunk)
    return ()
