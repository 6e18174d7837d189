"""The room for a load on machines that are values."""

from __future__ import annotations

import dataclasses

import pytest
from outrider.daemon.runners.budget import Budget, Room, budget_of, memory_for
from outrider.daemon.runners.machine import Gpu, Machine
from outrider.quant.memory import MemoryEstimate, PartBytes

pytestmark = pytest.mark.unit

GIB = 1 << 30
GPU = Gpu("CUDA0", "made up", 24 * GIB, 23 * GIB)
MACHINE = Machine("linux", "made up", 8, 32 * GIB, 20 * GIB, (GPU,))


def test_the_host_keeps_a_tenth_and_a_gpu_a_margin() -> None:
    budget = budget_of(MACHINE)
    assert budget.host.room_bytes == pytest.approx(20 * GIB - 3.2 * GIB, abs=GIB / 8)
    (room,) = budget.gpus
    assert room.device == "CUDA0"
    assert room.room_bytes == pytest.approx(23 * GIB - 24 * GIB / 32, abs=24 * GIB / 256)


def test_a_setting_keeps_more_of_each_gpu() -> None:
    plain, less = budget_of(MACHINE), budget_of(MACHINE, gpu_overhead_bytes=3 * GIB)
    assert plain.gpus[0].room_bytes - less.gpus[0].room_bytes == 3 * GIB
    assert plain.host == less.host


def test_a_small_change_of_the_free_memory_changes_no_plan() -> None:
    """Between two steps; at a step itself a byte decides."""
    a, b = (dataclasses.replace(MACHINE, available_bytes=20 * GIB + extra) for extra in (0, 4096))
    assert budget_of(a) == budget_of(b)


def test_a_machine_without_free_memory_has_no_room() -> None:
    full = dataclasses.replace(GPU, free_bytes=0)
    busy = dataclasses.replace(MACHINE, available_bytes=0, gpus=(full,))
    assert budget_of(busy) == Budget(Room("CPU", 0), (Room("CUDA0", 0),))


def test_the_device_that_lacks_most_is_named() -> None:
    budget = Budget(Room("CPU", 10), (Room("CUDA0", 10), Room("CUDA1", 10)))

    def excess(*sizes: int) -> tuple[str, int] | None:
        host, *gpus = (PartBytes(cache_bytes=size) for size in sizes)
        found = budget.excess(MemoryEstimate(host, tuple(gpus)))
        return found and (found.device, found.need_bytes)

    assert excess(10, 10, 10) is None
    assert excess(11, 13, 12) == ("CUDA0", 13)
    assert excess(11, 5) == ("CPU", 11)


def test_an_integrated_gpu_takes_the_hosts_memory() -> None:
    budget = Budget(Room("CPU", 10), (Room("Vulkan0", 20, is_integrated=True),))
    need = MemoryEstimate(PartBytes(cache_bytes=4), (PartBytes(cache_bytes=7),))
    found = budget.excess(need)
    assert found
    assert (found.device, found.need_bytes, found.room_bytes) == ("CPU", 11, 10)


@pytest.mark.parametrize("room_bytes", [1, 1000, 1789394942])
def test_a_limit_is_the_room_of_an_idle_machine(room_bytes: int) -> None:
    memory_bytes = memory_for(room_bytes)
    left = memory_bytes - memory_bytes // 10
    assert room_bytes <= left <= room_bytes + 1
