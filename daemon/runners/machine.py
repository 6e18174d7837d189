"""Which machine is this? Its free memory is read before each load, the rest when the daemon starts.

A machine is handed down as a value, so that what depends on it can be tested on any other.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from .cgroup import read_memory_left, read_memory_limit
from .cores import read_cores

HOST = "CPU"  # ggml's name of the device that is the host
ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device other than the CPU on which llama.cpp can put layers, as it is now."""

    name: str  # ggml's: "CUDA0", "Metal", "Vulkan1"
    description: str  # "NVIDIA GeForce RTX 3090"
    total_bytes: int
    free_bytes: int  # live: other processes and the desktop are subtracted
    is_integrated: bool = False  # its memory is the host's


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts about the hardware that decide how models are loaded."""

    system: str  # sys.platform: "linux", "darwin", "win32"
    processor: str  # architecture and, where the system tells it, model of the CPU
    physical_cores: int  # that decode: threads of a runner (cores.py)
    memory_bytes: int  # of the host; GPUs have memory of their own
    available_bytes: int | None = None  # of the host, now; None: all of it
    gpus: tuple[Gpu, ...] = ()  # those that llama.cpp uses, in its order
    places: str = "cores"  # those that decode, as OMP_PLACES; "": threads must not be bound

    @property
    def free_bytes(self) -> int:
        """Of the host, now."""
        return self.memory_bytes if self.available_bytes is None else self.available_bytes

    def with_less(self, share: float) -> Machine:
        """The machine with this share of its free memory in use."""
        taken = {gpu.name: -int(share * gpu.free_bytes) for gpu in self.gpus}
        return self.after_freeing({HOST: -int(share * self.free_bytes), **taken})

    def after_freeing(self, device_bytes: Mapping[str, int]) -> Machine:
        """The machine when these bytes are free too, or are taken if they are negative; the keys
        are names of devices."""
        gpus = tuple(
            replace(gpu, free_bytes=min(gpu.free_bytes + freed, gpu.total_bytes))
            for gpu in self.gpus
            for freed in (device_bytes.get(gpu.name, 0),)
        )
        shared = sum(device_bytes.get(gpu.name, 0) for gpu in self.gpus if gpu.is_integrated)
        available = self.free_bytes + device_bytes.get(HOST, 0) + shared
        return replace(self, available_bytes=min(available, self.memory_bytes), gpus=gpus)


def read_machine() -> Machine:
    """This machine, all of its memory counted as free, and without its GPUs (devices.py)."""
    cores = read_cores()
    total_bytes, limit_bytes = int(psutil.virtual_memory().total), read_memory_limit(ROOT)
    return Machine(
        system=sys.platform,
        processor=f"{platform.machine()} {platform.processor()}",
        physical_cores=cores.count,
        memory_bytes=min(total_bytes, limit_bytes or total_bytes),
        places=cores.places,
    )


def read_available() -> int:
    """Bytes of the host that can be used now: what the system and the control group leave."""
    free_bytes, left_bytes = int(psutil.virtual_memory().available), read_memory_left(ROOT)
    return free_bytes if left_bytes is None else min(free_bytes, left_bytes)
