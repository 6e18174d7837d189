"""Which cores decode, on machines that are made-up trees of /proc and /sys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from outrider.daemon.runners.cgroup import read_cpu_quota, read_memory_limit
from outrider.daemon.runners.cores import choose_cores, parse_cpu_list, read_cores

pytestmark = pytest.mark.unit

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def siblings(*cores: str) -> dict[str, str]:
    """Topology files of cores, each given as its list of logical CPUs."""
    return {
        f"{CPU}/cpu{cpu}/topology/thread_siblings_list": core
        for core in cores
        for cpu in parse_cpu_list(core)
    }


def capacities(*values: int) -> dict[str, str]:
    return {f"{CPU}/cpu{cpu}/cpu_capacity": str(value) for cpu, value in enumerate(values)}


DESKTOP = siblings("0", "1", "2", "3")
SMT = siblings("0,4", "1,5", "2,6", "3,7")
HYBRID = {  # two fast cores with two hyperthreads each, and four efficiency cores
    **siblings("0-1", "2-3", "4", "5", "6", "7"),
    "sys/devices/cpu_core/cpus": "0-3",
    "sys/devices/cpu_atom/cpus": "4-7",
}
BIG_LITTLE = {**siblings(*"01234567"), **capacities(446, 446, 446, 446, 1024, 1024, 1024, 1024)}
THREE_KINDS = {**siblings(*"01234567"), **capacities(325, 325, 325, 325, 870, 870, 870, 1024)}
TWO_NODES = {
    **siblings("0,8", "1,9", "2,10", "3,11", "4,12", "5,13", "6,14", "7,15"),
    f"{NODE}/node0/cpulist": "0-3,8-11",
    f"{NODE}/node0/distance": "10 21",
    f"{NODE}/node1/cpulist": "4-7,12-15",
    f"{NODE}/node1/distance": "21 10",
}
FOUR_NODES = {  # of two processors with two parts each
    **siblings(*"01234567"),
    **{f"{NODE}/node{n}/cpulist": f"{2 * n}-{2 * n + 1}" for n in range(4)},
    f"{NODE}/node0/distance": "10 12 32 32",
    f"{NODE}/node1/distance": "12 10 32 32",
    f"{NODE}/node2/distance": "32 32 10 12",
    f"{NODE}/node3/distance": "32 32 12 10",
}
UNIFIED = {"proc/self/cgroup": "0::/"}
HALF = {**SMT, **UNIFIED, "sys/fs/cgroup/cpu.max": "150000 100000"}


@pytest.mark.parametrize(
    ("files", "allowed", "count", "places"),
    [
        pytest.param(DESKTOP, range(4), 4, "{0},{1},{2},{3}", id="desktop"),
        pytest.param(SMT, range(8), 4, "{0,4},{1,5},{2,6},{3,7}", id="hyperthreads"),
        pytest.param(SMT, [0, 4, 5], 2, "{0,4},{5}", id="cpuset"),
        pytest.param(HYBRID, range(8), 2, "{0,1},{2,3}", id="hybrid"),
        pytest.param(HYBRID, range(4, 8), 4, "{4},{5},{6},{7}", id="only efficiency cores"),
        pytest.param(BIG_LITTLE, range(8), 4, "{4},{5},{6},{7}", id="big.LITTLE"),
        pytest.param(THREE_KINDS, range(8), 4, "{4},{5},{6},{7}", id="middle cores are fast"),
        pytest.param(HALF, range(8), 2, "", id="quota of 1.5"),
        pytest.param(TWO_NODES, range(16), 4, "{0,8},{1,9},{2,10},{3,11}", id="two processors"),
        pytest.param(TWO_NODES, [0, *range(4, 8)], 4, "{4},{5},{6},{7}", id="the fuller one"),
        pytest.param(FOUR_NODES, range(8), 4, "{0},{1},{2},{3}", id="near nodes are one processor"),
        pytest.param({}, [0, 1], 2, "{0},{1}", id="nothing is known"),
    ],
)
def test_cores(
    tmp_path: Path, files: dict[str, str], allowed: list[int], count: int, places: str
) -> None:
    found = choose_cores(tree(tmp_path, files), allowed)
    assert (found.count, found.places) == (count, places)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    assert choose_cores(tree(tmp_path / "a", HYBRID), range(8)).efficiency == 4
    assert choose_cores(tree(tmp_path / "b", TWO_NODES), range(16)).remote == 4
    assert choose_cores(tree(tmp_path / "c", HALF), range(8)).quota == 1.5


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({**UNIFIED, "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({**UNIFIED, "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/user.slice/app.scope",
                "sys/fs/cgroup/user.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/user.slice/app.scope/cpu.max": "400000 100000",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({}, None),
    ],
    ids=["none", "half", "of an ancestor", "version 1", "version 1 without", "no groups"],
)
def test_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert read_cpu_quota(tree(tmp_path, files)) == quota


def test_less_than_one_cpu_is_one_thread(tmp_path: Path) -> None:
    files = {**DESKTOP, **UNIFIED, "sys/fs/cgroup/cpu.max": "20000 100000"}
    assert choose_cores(tree(tmp_path, files), range(4)).count == 1


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({**UNIFIED, "sys/fs/cgroup/memory.max": "max"}, None),
        ({**UNIFIED, "sys/fs/cgroup/memory.max": str(2 << 30)}, 2 << 30),
        (
            {
                "proc/self/cgroup": "4:memory:/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str((1 << 63) - 4096),
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/pod/c",
                "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": str(1 << 30),
                "sys/fs/cgroup/memory/pod/c/memory.limit_in_bytes": str(3 << 30),
            },
            1 << 30,
        ),
    ],
)
def test_memory_limit(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert read_memory_limit(tree(tmp_path, files)) == limit


def test_lists_of_cpus() -> None:
    assert parse_cpu_list("0-2,8,10-11") == {0, 1, 2, 8, 10, 11}
    assert parse_cpu_list("") == frozenset()


def test_this_machine_has_a_core() -> None:
    assert read_cores().count >= 1
