"""Which plan is refused before anything is loaded or unloaded for it?"""

from __future__ import annotations

from ..errors import DoesNotFit
from .machine import MEMORY_SHARE, Machine
from .model_info import ModelInfo
from .plan import LoadPlan

MIB = 1 << 20
TOO_LARGE = "{} needs {:,} MiB of memory, and models may take {:,} MiB on this machine"


def refuse_too_large(plan: LoadPlan, info: ModelInfo, machine: Machine) -> None:
    """Raises DoesNotFit for what even the idle machine has no room for."""
    gpu_bytes = sum(gpu.total_bytes for gpu in machine.gpus)
    room_bytes = int(MEMORY_SHARE * machine.memory_bytes) + gpu_bytes
    need_bytes = plan.need.total_bytes
    if need_bytes > room_bytes:
        name, need_mib = info.model.name.short, -(-need_bytes // MIB)
        raise DoesNotFit(TOO_LARGE.format(name, need_mib, room_bytes // MIB))
