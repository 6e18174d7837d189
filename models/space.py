"""Is there room on the disk for what is about to be written?"""

import shutil
from pathlib import Path
from typing import Final

from .errors import NoSpace

# Bytes that an upload of unknown length leaves free: other programs still need to write.
RESERVE_BYTES: Final = 64 << 20

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
