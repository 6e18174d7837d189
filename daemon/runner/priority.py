"""How does a runner let other programs go first?"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

NICE = 10  # of a runner in the background: beside a busy process at 0 it gets a tenth of a core
IO_LEVEL = 7  # the last of the eight levels of the best-effort class (Linux, ioprio_set(2))


def yield_to_others() -> None:
    """Lowers the priority of this process; threads and processes that it starts inherit it.

    One that is lower already stays: a process must not raise its own.
    """
    for thread in _threads():
        if os.getpriority(os.PRIO_PROCESS, thread) < NICE:
            os.setpriority(os.PRIO_PROCESS, thread, NICE)
    if hasattr(psutil, "IOPRIO_CLASS_BE"):
        with contextlib.suppress(psutil.AccessDenied):  # a sandbox may forbid it
            psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, IO_LEVEL)


def _threads() -> list[int]:
    """Ids of all threads on Linux, where each has a niceness of its own; 0: the whole process."""
    if sys.platform != "linux":
        return [0]
    return [thread.id for thread in psutil.Process().threads()]
