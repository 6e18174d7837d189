"""How many cores do other processes keep busy, of those on which this process may run?"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import psutil

WINDOW_S = 0.15  # between two readings; the system counts busy time in ticks of up to 10 ms
MIN_WINDOW_S = 0.04  # before a reading that is wanted at once
IDLE_FIELDS = ("idle", "iowait")
IN_OTHERS = ("guest", "guest_nice")  # are counted in user and nice, too (proc(5))


@dataclass(frozen=True, slots=True)
class CpuReading:
    """Seconds since some start."""

    at_s: float
    busy_s: float  # of all permitted cores together
    own_s: float  # of all threads of this process


@dataclass(frozen=True, slots=True)
class NeighbourLoad:
    """One reading, known by its identity. `cores`: kept busy by others since the one before."""

    at_s: float
    cores: float


class Neighbours:
    """Reads the load by others while steps run; an idle runner reads nothing."""

    def __init__(self, cpus: frozenset[int]) -> None:
        """`cpus`: those that this process may use; empty: all."""
        self._cpus = cpus
        self._last = self._read(time.monotonic())
        self._load = NeighbourLoad(self._last.at_s, 0.0)

    def load(self, now_s: float, *, is_urgent: bool) -> NeighbourLoad:
        """The last reading, or a new one if that is old. `now_s`: monotonic."""
        if now_s >= self._last.at_s + (MIN_WINDOW_S if is_urgent else WINDOW_S):
            last, self._last = self._last, self._read(now_s)
            self._load = NeighbourLoad(now_s, cores_of_others(last, self._last))
        return self._load

    def _read(self, now_s: float) -> CpuReading:
        busy_s = 0.0
        for cpu, times in enumerate(psutil.cpu_times(percpu=True)):
            if not self._cpus or cpu in self._cpus:
                fields = times._asdict()
                busy_s += sum(fields.values())
                busy_s -= sum(fields.get(name, 0.0) for name in (*IDLE_FIELDS, *IN_OTHERS))
        return CpuReading(now_s, busy_s, time.process_time())


def cores_of_others(earlier: CpuReading, later: CpuReading) -> float:
    """Cores that were busy between two readings, without this process's own."""
    took_s = later.at_s - earlier.at_s
    others_s = (later.busy_s - earlier.busy_s) - (later.own_s - earlier.own_s)
    return max(others_s / took_s, 0.0) if took_s > 0 else 0.0


def permitted_cpus() -> frozenset[int]:
    """Logical CPUs that the calling thread may use; empty where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()
