"""How often was a process given a core? What polls once a second shows here."""

from __future__ import annotations

from pathlib import Path

import psutil

WATCH_S = 5.0
SETTLE_S = 2.0  # after the last answer: its connection is closed, allocators give memory back
MAX_SWITCHES = 2  # of one process meanwhile; whatever polls once a second has more


def switches(process: psutil.Process) -> int:
    """Times that any thread of the process was given a core, so far (Linux counts by thread)."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.exists():
        return sum(process.num_ctx_switches())
    lines = (line for task in tasks.iterdir() for line in _lines(task / "status"))
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # the thread has ended
        return []
