"""Which machine is this? Read once when the daemon starts, and handed down as a value."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

import psutil

from .cores import read_cores

MEMORY_SHARE = 0.9  # of the host's memory, for all loaded models; the rest is the system's


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


def read_machine() -> Machine:
    """This machine."""
    cores = read_cores()
    return Machine(
        system=sys.platform,
        processor=f"{platform.machine()} {platform.processor()}",
        physical_cores=cores.count,
        memory_bytes=int(psutil.virtual_memory().total),
        places=cores.places,
    )
