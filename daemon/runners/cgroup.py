"""Which limits do the control groups set that this process is in (Linux, versions 1 and 2)?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNT = "sys/fs/cgroup"
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes the largest multiple of a page, 2^63 - 4096, for no limit of memory."""


def read_cpu_quota(root: Path) -> float | None:
    """CPUs that the process may use at a time, such as 1.5; None without a limit.

    Groups are nested, and the smallest limit holds. `root`: where /proc and /sys are.
    """
    unified = [_cpu_max(folder / "cpu.max") for folder in _folders(root, "")]
    legacy = [_cfs_quota(folder) for folder in _folders(root, "cpu")]
    return min((quota for quota in (*unified, *legacy) if quota), default=None)


def read_memory_limit(root: Path) -> int | None:
    """Bytes that the processes of the group may use; None without a limit. `root` as above."""
    files = [folder / "memory.max" for folder in _folders(root, "")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders(root, "memory")]
    limits = [int(text) for file in files if (text := read_text(file)).isdecimal()]
    return min((limit for limit in limits if 0 < limit < UNLIMITED_BYTES), default=None)


def read_memory_left(root: Path) -> int | None:
    """Bytes that the processes of the group may still use; None without a limit. `root` as above.

    Pages of files that nobody has used for a while count as left: the kernel drops them first.
    """
    unified = [_left(folder, "memory.max", "memory.current") for folder in _folders(root, "")]
    legacy = [
        _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")
        for folder in _folders(root, "memory")
    ]
    return min((left for left in (*unified, *legacy) if left is not None), default=None)


def read_text(path: Path) -> str:
    """The content of a small file without blanks around it; "" if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the group and of its ancestors; `controller` is "" for version 2.

    In a container the path may be that of the host, where its own group is mounted at the top.
    """
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if controller not in names.split(","):
            continue
        # The folder of version 1 is named like the line ("cpu,cpuacct") or by a link ("cpu").
        tops = [root / MOUNT / names, root / MOUNT / controller] if controller else [root / MOUNT]
        top = next((each for each in tops if each.is_dir()), tops[0])
        group = top / path.strip("/")
        yield group
        yield from (each for each in group.parents if each == top or top in each.parents)


def _cpu_max(file: Path) -> float | None:
    """ "150000 100000": microseconds of CPU time, and of the period in which they may be used."""
    words = read_text(file).split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    return int(words[0]) / int(words[1])


def _cfs_quota(folder: Path) -> float | None:
    """As `_cpu_max`, from the two files of version 1; -1: no limit."""
    quota, period = (read_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _left(folder: Path, limit_file: str, usage_file: str) -> int | None:
    limit, usage = (read_text(folder / name) for name in (limit_file, usage_file))
    if not (limit.isdecimal() and usage.isdecimal()) or int(limit) >= UNLIMITED_BYTES:
        return None
    rows = (line.split() for line in read_text(folder / "memory.stat").splitlines())
    stat = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
    # Version 1 counts the descendants in the keys that begin with "total_" alone.
    droppable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return max(0, int(limit) - int(usage) + droppable)
