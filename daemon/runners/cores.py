"""Which cores of the CPU decode? One thread for each, so more of them are not always better."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from .cgroup import read_cpu_quota, read_text

# A core below this share of the fastest core's capacity is an efficiency core. All threads wait for
# the slowest at each operation. Small cores of ARM have 0.2 to 0.45 of it, middle ones 0.75 to 0.9.
EFFICIENCY_SHARE = 0.6
# Distance of two NUMA nodes from which on they are not on the same processor: 10 is a node itself,
# parts of one processor are at 11 to 13, and 20 is the firmware's default for another one (ACPI,
# System Locality Information Table).
REMOTE_DISTANCE = 20
SYSCTL_TIMEOUT_S = 5.0

Cpus = frozenset[int]


@dataclass(frozen=True, slots=True)
class DecodingCores:
    """The cores on which a runner has its threads, and why the others are left out."""

    cores: tuple[Cpus, ...]  # chosen cores, each by its logical CPUs; empty: the system hides them
    count: int  # threads: the number of cores, or fewer where a quota allows no more
    efficiency: int = 0  # cores left out because they are slow
    remote: int = 0  # cores left out because they belong to another processor (NUMA)
    quota: float | None = None  # CPUs that the control group allows

    @property
    def places(self) -> str:
        """The cores as OMP_PLACES; "" where threads must not be bound to them.

        Containers with a quota share their cores with others, and all would bind to the first ones.
        """
        if not self.cores:
            return "cores"
        if self.count < len(self.cores):
            return ""
        return ",".join(f"{{{','.join(map(str, sorted(core)))}}}" for core in self.cores)


def read_cores() -> DecodingCores:
    """The cores of this machine that this process may use."""
    if sys.platform == "linux":
        return choose_cores(Path("/"), os.sched_getaffinity(0))
    count = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    fast = _sysctl("hw.perflevel0.physicalcpu") if sys.platform == "darwin" else None
    fast = min(fast or count, count)
    return DecodingCores((), fast, efficiency=count - fast)


def choose_cores(root: Path, allowed: Collection[int]) -> DecodingCores:
    """The cores to decode on (Linux).

    `root`: where /proc and /sys are; `allowed`: logical CPUs that the process may run on, which is
    its affinity and includes the cpuset of its control group. Hyperthreads of a core count once,
    and efficiency cores only where there are no others.
    """
    cpus = root / "sys/devices/system/cpu"
    all_cores = sorted({_siblings(cpus, cpu) & frozenset(allowed) for cpu in allowed}, key=min)
    fast = _fast(root, all_cores) or all_cores
    near = _nearest(root, fast)
    quota = read_cpu_quota(root)
    count = min(len(near), max(1, math.ceil(quota))) if quota else len(near)
    return DecodingCores(
        tuple(near), count, len(all_cores) - len(fast), len(fast) - len(near), quota
    )


def parse_cpu_list(text: str) -> Cpus:
    """The numbers of "0-3,8", the kernel's form of a set of CPUs."""
    ranges = (part.split("-") for part in text.split(",") if part.strip())
    return frozenset(cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1))


def _siblings(cpus: Path, cpu: int) -> Cpus:
    """The logical CPUs of the same core."""
    text = read_text(cpus / f"cpu{cpu}/topology/thread_siblings_list")
    return parse_cpu_list(text) | {cpu}


def _fast(root: Path, cores: Iterable[Cpus]) -> list[Cpus]:
    """Without efficiency cores: Intel's kernel driver names them, ARM's cores have a capacity."""
    devices = root / "sys/devices"
    slow = parse_cpu_list(read_text(devices / "cpu_atom/cpus"))
    if slow and (devices / "cpu_core/cpus").exists():
        return [core for core in cores if not core & slow]
    capacities = {core: _capacity(devices / "system/cpu", core) for core in cores}
    least = EFFICIENCY_SHARE * max(capacities.values(), default=0)
    return [core for core, capacity in capacities.items() if capacity >= least]


def _capacity(cpus: Path, core: Cpus) -> int:
    """Of 1024, which the fastest core of the machine has; 0 where the kernel does not tell."""
    text = read_text(cpus / f"cpu{min(core)}/cpu_capacity")
    return int(text) if text.isdecimal() else 0


def _nearest(root: Path, cores: list[Cpus]) -> list[Cpus]:
    """The cores of one processor: of that with the most of them, or else the first.

    Weights lie where the thread ran that read them. The threads of another processor would fetch
    all their weights over the link between the two, and the others wait for them at each operation.
    """
    groups = _processors(root / "sys/devices/system/node")
    by_processor = [[core for core in cores if core <= group] for group in groups]
    return max(by_processor, key=len, default=[]) or cores


def _processors(nodes: Path) -> list[Cpus]:
    """CPUs of each processor: of the NUMA nodes that are near to each other."""
    found = {}
    for node in nodes.glob("node[0-9]*"):
        distances = [int(word) for word in read_text(node / "distance").split()]
        found[int(node.name[4:])] = parse_cpu_list(read_text(node / "cpulist")), distances
    groups: dict[int, Cpus] = {}
    for position, number in enumerate(sorted(found)):  # distances are in the order of the nodes
        cpus, distances = found[number]
        near = [each for each, far in enumerate(distances[:position]) if far < REMOTE_DISTANCE]
        first = next((each for each in near if each in groups), position)
        groups[first] = groups.get(first, frozenset()) | cpus
    return list(groups.values())


def _sysctl(name: str) -> int | None:
    """A number that macOS knows; None where it does not, as on Intel's processors."""
    command = ["/usr/sbin/sysctl", "-n", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSCTL_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return int(done.stdout) if done.stdout.strip().isdecimal() else None
