"""Is there room for what is about to be written: on the disk, and within a quota?"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import NoSpace

# Bytes that an upload of unknown length leaves free: other programs still need to write.
RESERVE_BYTES: Final = 64 << 20

_BLOCK_BYTES: Final = 512  # of st_blocks, on every system
_UNITS: Final = ("kB", "MB", "GB", "TB")


def require_space(folder: Path, need_bytes: int, what: str, *, reserve_bytes: int = 0) -> None:
    """Raises NoSpace with both numbers unless `need_bytes` fit on the file system of `folder`.

    `folder` may be missing, if a folder above it is there; `reserve_bytes` stay free besides.
    """
    free_bytes = shutil.disk_usage(_existing(folder)).free
    if need_bytes + reserve_bytes > free_bytes:
        beside = f" besides a reserve of {format_bytes(reserve_bytes)}" if reserve_bytes else ""
        raise NoSpace(
            f"not enough disk space in {folder}: {format_bytes(need_bytes)} are needed for {what}, "
            f"{format_bytes(max(0, free_bytes - reserve_bytes))} are free{beside}; make room or "
            "choose another models folder"
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """A bound on the bytes of all files below a folder, and a linked `blobs`; 0: there is none."""

    root: Path
    blobs: Path
    max_bytes: int = 0

    def require(self, need_bytes: int, what: str) -> None:
        """Raises NoSpace with the numbers if `need_bytes` more would be too much."""
        if not self.max_bytes:
            return
        folders = (self.root, self.blobs) if self.blobs.is_symlink() else (self.root,)
        stored_bytes = sum(size for folder in folders for size in _sizes(folder))
        if stored_bytes + need_bytes > self.max_bytes:
            raise NoSpace(
                f"the models folder {self.root} may hold {format_bytes(self.max_bytes)}: "
                f"{format_bytes(stored_bytes)} are stored, and {format_bytes(need_bytes)} are "
                f"needed for {what}; delete models, or raise MAX_STORED"
            )


def _sizes(folder: Path) -> Iterator[int]:
    """What the files below a folder take; a file that goes meanwhile takes nothing."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(place, name))
                # A download is as long as its end from the start, and has holes.
                yield min(status.st_size, status.st_blocks * _BLOCK_BYTES)


def format_bytes(count: int) -> str:
    """Bytes as people read them, in decimal units: 999 B, 1.5 kB, 20.0 MB, 4.2 GB."""
    if count < 1000:
        return f"{count} B"
    exponent = min((len(str(count)) - 1) // 3, len(_UNITS))
    return f"{count / 1000**exponent:.1f} {_UNITS[exponent - 1]}"


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
