"""On which cores do the threads of the runner lie?

OpenMP binds each decoding thread to a core of its own: beside a neighbour the kernel would move two
of them to one core, for hundreds of barriers. Binding has two side effects that are undone here.
Threads and processes that are started by the bound thread inherit its core. And with fewer decoding
threads than cores, those of all runners would share the first cores.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import psutil

IS_LINUX = sys.platform == "linux"


class ThreadBinding:
    """Must be made by the thread that decodes, after OpenMP was loaded."""

    def __init__(self, cpus: frozenset[int]) -> None:
        """`cpus`: those of the process before OpenMP bound its first thread; empty: not known."""
        self.cpus = cpus if IS_LINUX else frozenset[int]()
        self._thread = threading.get_native_id()
        self._own = frozenset(os.sched_getaffinity(self._thread)) if self.cpus else frozenset()
        self._others: dict[int, frozenset[int]] = {}  # further decoding threads that are free now
        self.is_bound = bool(self.cpus) and self._own != self.cpus

    def free_all(self) -> None:
        """Let every thread of the process run on every permitted core."""
        if not self.is_bound:
            return
        for thread in psutil.Process().threads():
            with contextlib.suppress(OSError):  # the thread has ended, or its cores are gone
                cpus = frozenset(os.sched_getaffinity(thread.id))
                if cpus not in (self.cpus, self._own):  # OpenMP has given it a core
                    self._others[thread.id] = cpus
                os.sched_setaffinity(thread.id, self.cpus)

    def bind_decoding(self) -> None:
        """Bind the threads that decode; OpenMP binds those that it starts later."""
        if not self.is_bound:
            return
        for thread, cpus in {**self._others, self._thread: self._own}.items():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, cpus)
        self._others.clear()
