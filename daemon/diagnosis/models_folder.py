"""Can models be stored where they should be, and how fast are they read from there?"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

from .facts import ModelsFolder

READ_BYTES = 256 << 20  # of a stored file, at most: enough for any disk to reach its speed
READ_S = 2.0  # for which a file is read, at most
CHUNK_BYTES = 4 << 20
PROBE_BYTES = 1 << 12
CACHED_BYTES_PER_S = 6e9  # faster than most disks; decides where the system does not tell


def read_folder(path: Path) -> ModelsFolder:
    """The folder; where it does not exist yet, the nearest one above it counts."""
    existing = next(each for each in (path, *path.parents) if each.exists())
    usage = shutil.disk_usage(existing)
    rate, was_cached = None, False
    with contextlib.suppress(OSError):
        if largest := _largest(path / "blobs"):
            rate, was_cached = measure_read(largest)
    return ModelsFolder(
        path=str(path),
        is_writable=existing.is_dir() and os.access(existing, os.W_OK | os.X_OK),
        free_bytes=usage.free,
        total_bytes=usage.total,
        read_bytes_per_s=rate,
        was_cached=was_cached,
    )


def measure_read(path: Path) -> tuple[float, bool]:
    """Bytes per second of reading the start of a file, and whether it was in memory already.

    The kernel is asked to drop those pages first. It keeps pages that a process maps, such as the
    weights of a loaded model. Raises OSError.
    """
    with path.open("rb", buffering=0) as file:
        if sys.platform == "linux":
            os.posix_fadvise(file.fileno(), 0, READ_BYTES, os.POSIX_FADV_DONTNEED)
        was_cached = _is_cached(file.fileno())
        buffer, total, start_s = bytearray(CHUNK_BYTES), 0, time.perf_counter()
        while total < READ_BYTES and (count := file.readinto(buffer)):
            total += count
            if time.perf_counter() - start_s > READ_S:
                break
        took_s = max(time.perf_counter() - start_s, 1e-9)
    rate = total / took_s
    return rate, rate > CACHED_BYTES_PER_S if was_cached is None else was_cached


def _is_cached(descriptor: int) -> bool | None:
    """Whether the start of a file can be read without waiting for the disk (preadv2(2)).

    None where the system or the file system does not tell.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.preadv(descriptor, [bytearray(PROBE_BYTES)], 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    except OSError:
        return None


def _largest(folder: Path) -> Path | None:
    """The largest blob, which is a model's weights."""
    blobs = [path for path in folder.glob("sha256-*") if path.is_file()]
    return max(blobs, key=lambda path: path.stat().st_size, default=None)
