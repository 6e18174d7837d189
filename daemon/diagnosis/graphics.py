"""Which GPUs are in this machine? Found without the library of any driver."""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..runners.cgroup import read_text
from .facts import Graphics, GraphicsCard, Vendor

DISPLAY_CLASS = "0x03"  # the first byte of a PCI class: display controllers, with or without a port
VENDORS: Mapping[str, Vendor] = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
INTEL_INTEGRATED = re.compile(r"0000:00:")  # Intel's integrated GPU is on the first bus
# Memory of its own up to which a GPU of AMD is taken for an integrated one, to which the firmware
# gives a part of the host's: 512 MiB by default, seldom more than 2 GiB.
AMD_INTEGRATED_BYTES = 2 << 30
DRIVER_VERSION = re.compile(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s")
WSL_DEVICE, WSL_LIBRARY = "dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"


def read_graphics(root: Path, system: str) -> Graphics:
    """The GPUs of a machine. `root`: where /dev, /proc and /sys are; `system`: sys.platform."""
    if system == "darwin":
        return Graphics((GraphicsCard("Apple", driver="Metal", is_integrated=True),))
    has_wsl = (root / WSL_DEVICE).exists() and (root / WSL_LIBRARY).exists()
    wsl = (GraphicsCard("NVIDIA", "WSL", "dxgkrnl"),) if has_wsl else ()
    version = DRIVER_VERSION.search(read_text(root / "proc/driver/nvidia/version"))
    cards = (*_cards(root), *wsl)
    denied = tuple(_denied(root)) if any(card.vendor != "NVIDIA" for card in cards) else ()
    return Graphics(
        cards=cards,
        nvidia_driver=version[1] if version else "WSL" if has_wsl else "",
        has_nvidia_device=(root / "dev/nvidia0").exists() or has_wsl,
        denied=tuple(f"/{path.relative_to(root)}" for path in denied),
        denied_groups=tuple(sorted({_group(path) for path in denied})),
    )


def _cards(root: Path) -> Iterator[GraphicsCard]:
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor = VENDORS.get(read_text(folder / "vendor").lower())
        if vendor and read_text(folder / "class").startswith(DISPLAY_CLASS):
            driver = folder / "driver"
            name = os.readlink(driver).rpartition("/")[2] if driver.is_symlink() else ""
            yield GraphicsCard(vendor, folder.name, name, _is_integrated(vendor, folder))


def _is_integrated(vendor: Vendor, folder: Path) -> bool:
    if vendor == "AMD":
        memory = read_text(folder / "mem_info_vram_total")
        return memory.isdecimal() and int(memory) <= AMD_INTEGRATED_BYTES
    return vendor == "Intel" and bool(INTEL_INTEGRATED.match(folder.name))


def _denied(root: Path) -> Iterator[Path]:
    """Files of AMD's and Intel's GPUs that are there, but not for this user."""
    for path in (root / "dev/kfd", *sorted((root / "dev/dri").glob("renderD*"))):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            yield path


def _group(path: Path) -> str:
    number = path.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # as in a container, which has not the names of the host
        return str(number)
