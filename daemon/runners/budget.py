"""How much of a machine's memory may one load take? Live free memory, less what stays free."""

from __future__ import annotations

from dataclasses import dataclass

from ...quant.memory import MemoryEstimate
from .machine import HOST, Gpu, Machine

# The host's memory that no load takes, as a part of all of it: the user's own programs grow, and
# the host cache of a runner (plan.py) fills after the load.
HOST_RESERVE_DIVISOR = 10
# A GPU's memory that stays free: the desktop grows, and predictions are wrong by 3 % at most.
GPU_MARGIN_BYTES = 512 << 20
GPU_MARGIN_DIVISOR = 32  # the margin is at least one part in so many of a GPU's memory
# Free memory is rounded down to steps of one part of it in so many, so that two plans on the same
# idle machine are the same: the type of the KV cache must not change from one load to the next.
STEP_DIVISOR = 256


@dataclass(frozen=True, slots=True)
class Room:
    """What one load may take on a device."""

    device: str
    room_bytes: int
    is_integrated: bool = False  # the room is part of the host's


@dataclass(frozen=True, slots=True)
class Excess:
    """A device on which a load would need more than there is room for."""

    device: str
    need_bytes: int
    room_bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The rooms of all devices."""

    host: Room
    gpus: tuple[Room, ...] = ()

    def excess(self, need: MemoryEstimate, *, mapped_bytes: int = 0) -> Excess | None:
        """The device that lacks most for this load; None: it fits.

        `mapped_bytes`: of the host's need, which the system may drop and read again.
        """
        pairs = [(self.host, host_bytes(need, self) - mapped_bytes)]
        pairs += [
            (room, part.total_bytes) for room, part in zip(self.gpus, need.gpus, strict=False)
        ]
        found = [
            Excess(room.device, needed, room.room_bytes)
            for room, needed in pairs
            if needed > room.room_bytes
        ]
        return max(found, key=lambda each: each.need_bytes - each.room_bytes, default=None)


def budget_of(machine: Machine, *, gpu_overhead_bytes: int = 0) -> Budget:
    """The room on each device now; `gpu_overhead_bytes` stay free on each GPU beside the margin."""
    host_bytes = machine.free_bytes - machine.memory_bytes // HOST_RESERVE_DIVISOR
    gpus = tuple(_gpu_room(gpu, gpu_overhead_bytes) for gpu in machine.gpus)
    return Budget(Room(HOST, _round_down(host_bytes, machine.memory_bytes)), gpus)


def memory_for(room_bytes: int) -> int:
    """The memory of a host on which so many bytes are left when the reserve is subtracted."""
    return -(-room_bytes * HOST_RESERVE_DIVISOR // (HOST_RESERVE_DIVISOR - 1))


def host_bytes(need: MemoryEstimate, budget: Budget) -> int:
    """What a load takes of the host's memory, that of integrated GPUs included."""
    parts = zip(budget.gpus, need.gpus, strict=False)
    shared = sum(part.total_bytes for room, part in parts if room.is_integrated)
    return need.host.total_bytes + shared


def _gpu_room(gpu: Gpu, overhead_bytes: int) -> Room:
    margin = max(GPU_MARGIN_BYTES, gpu.total_bytes // GPU_MARGIN_DIVISOR)
    left = _round_down(gpu.free_bytes - margin - overhead_bytes, gpu.total_bytes)
    return Room(gpu.name, left, gpu.is_integrated)


def _round_down(num_bytes: int, total_bytes: int) -> int:
    step = max(1, total_bytes // STEP_DIVISOR)
    return max(0, num_bytes // step * step)
