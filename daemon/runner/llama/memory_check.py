"""Does the system see as much memory taken as llama.cpp says that it has allocated?"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Sequence
from pathlib import Path

from ...protocol import DeviceBytes
from .devices import Device, read_devices, read_memory, select_used
from .placement import DevicePlacement

MIB = 1 << 20
STATM = Path("/proc/self/statm")  # Linux: memory of this process in pages, the second is resident

log = logging.getLogger(__name__)


class MemoryCheck:
    """Made before a load, it reports after it, while debugging. Mapped weights count once their
    pages are read."""

    def __init__(self, placement: DevicePlacement) -> None:
        is_wanted = log.isEnabledFor(logging.DEBUG) and placement.gpu_layers
        gpus = select_used(read_devices()) if is_wanted else ()
        self._gpus = gpus if placement.only_gpu is None else gpus[placement.only_gpu :][:1]
        self._resident_bytes = read_resident_bytes()
        self._free_bytes = _read_free(self._gpus)

    def report(self, sizes: Sequence[DeviceBytes]) -> None:
        """One line for each device."""
        taken = {size.device: size for size in sizes if size.is_gpu}
        for size in sizes:
            if not size.is_gpu and self._resident_bytes is not None:
                resident_bytes = (read_resident_bytes() or 0) - self._resident_bytes
                log.debug("%s", describe(size, resident_bytes))
        for gpu, before, after in zip(
            self._gpus, self._free_bytes, _read_free(self._gpus), strict=True
        ):
            size = taken.get(gpu.name, DeviceBytes(gpu.name, True))
            log.debug("%s", describe(size, before - after))


def describe(size: DeviceBytes, seen_bytes: int) -> str:
    """Both figures of one device, and the parts of the first."""
    parts = {
        "weights": size.weights_bytes,
        "cache": size.cache_bytes,
        "compute": size.compute_bytes,
        "adapters": size.adapter_bytes,
        "drafter": size.drafter_bytes,
    }
    listed = ", ".join(f"{part} {held / MIB:.1f}" for part, held in parts.items() if held)
    return (
        f"{size.device}: {sum(parts.values()) / MIB:.1f} MiB allocated ({listed or 'nothing'}), "
        f"{seen_bytes / MIB:.1f} MiB more in use than before"
    )


def read_resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system has no /proc."""
    try:
        return int(STATM.read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return None


def _read_free(gpus: Sequence[Device]) -> list[int]:
    return [read_memory(gpu).free_bytes for gpu in gpus]
