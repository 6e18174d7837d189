"""Which processes belong to a daemon, also after its end, and what do they take?"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "OUTRIDER_LONG_MARK"  # a variable that every process inherits


def new_mark() -> str:
    """A value of MARK for one daemon."""
    return secrets.token_hex(8)


def marked(mark: str) -> list[psutil.Process]:
    """The processes, living ones alone, that carry the mark in their environment."""
    entry = f"{MARK}={mark}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if entry in environment.split(b"\0") and process.pid != os.getpid():
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def wait_until(condition: Callable[[], bool], limit_s: float) -> float | None:
    """Seconds until the condition holds; None if it does not within the limit."""
    start_s = time.monotonic()
    while time.monotonic() - start_s < limit_s:
        if condition():
            return time.monotonic() - start_s
        time.sleep(0.02)
    return None


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What a process takes at a moment."""

    rss_bytes: int
    descriptors: int
    threads: int


def take_sample(process: psutil.Process) -> ProcessSample:
    with process.oneshot():
        return ProcessSample(process.memory_info().rss, process.num_fds(), process.num_threads())
