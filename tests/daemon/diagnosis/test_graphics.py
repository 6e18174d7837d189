"""Which GPUs are found, on machines that are made-up trees of /dev, /proc and /sys?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from outrider.daemon.diagnosis.facts import GraphicsCard
from outrider.daemon.diagnosis.graphics import read_graphics

pytestmark = pytest.mark.unit

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build\n"
    "GCC version:  gcc version 12.2.0\n"
)


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def plug(
    root: Path,
    place: str,
    vendor: str,
    kind: str = "0x030000",
    driver: str = "",
    vram_bytes: int | None = None,
) -> None:
    """A PCI device as the kernel shows it."""
    folder = f"sys/bus/pci/devices/{place}"
    write(root, f"{folder}/vendor", f"{vendor}\n")
    write(root, f"{folder}/class", f"{kind}\n")
    if driver:
        (root / folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
    if vram_bytes is not None:
        write(root, f"{folder}/mem_info_vram_total", f"{vram_bytes}\n")


def test_a_machine_without_gpus(tmp_path: Path) -> None:
    plug(tmp_path, "0000:00:01.0", "0x1af4", "0x020000")
    plug(tmp_path, "0000:00:02.0", "0x1a03")  # of a server's management controller
    plug(tmp_path, "0000:00:1f.3", "0x8086", "0x040300")  # Intel's sound
    assert read_graphics(tmp_path, "linux").cards == ()


def test_an_nvidia_gpu_with_its_driver(tmp_path: Path) -> None:
    plug(tmp_path, "0000:01:00.0", "0x10de", driver="nvidia")
    plug(tmp_path, "0000:01:00.1", "0x10de", "0x040300", "snd_hda_intel")
    write(tmp_path, "proc/driver/nvidia/version", VERSION)
    write(tmp_path, "dev/nvidia0")
    found = read_graphics(tmp_path, "linux")
    assert found.cards == (GraphicsCard("NVIDIA", "0000:01:00.0", "nvidia"),)
    assert (found.nvidia_driver, found.has_nvidia_device) == ("550.54.14", True)


def test_accelerators_without_a_port_count(tmp_path: Path) -> None:
    plug(tmp_path, "0000:17:00.0", "0x10de", "0x030200")
    assert [card.vendor for card in read_graphics(tmp_path, "linux").cards] == ["NVIDIA"]


def test_integrated_gpus(tmp_path: Path) -> None:
    plug(tmp_path, "0000:00:02.0", "0x8086", driver="i915")
    plug(tmp_path, "0000:03:00.0", "0x8086", driver="xe")
    plug(tmp_path, "0000:04:00.0", "0x1002", driver="amdgpu", vram_bytes=16 << 30)
    plug(tmp_path, "0000:05:00.0", "0x1002", driver="amdgpu", vram_bytes=512 << 20)
    cards = read_graphics(tmp_path, "linux").cards
    assert [card.is_integrated for card in cards] == [True, False, False, True]


def test_an_nvidia_gpu_in_wsl(tmp_path: Path) -> None:
    write(tmp_path, "dev/dxg")
    write(tmp_path, "usr/lib/wsl/lib/libcuda.so.1")
    found = read_graphics(tmp_path, "linux")
    assert (found.cards[0].vendor, found.has_nvidia_device) == ("NVIDIA", True)


def test_apple(tmp_path: Path) -> None:
    assert [card.vendor for card in read_graphics(tmp_path, "darwin").cards] == ["Apple"]


def test_files_that_the_user_must_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug(tmp_path, "0000:03:00.0", "0x1002", driver="amdgpu", vram_bytes=16 << 30)
    write(tmp_path, "dev/kfd")
    write(tmp_path, "dev/dri/renderD128")
    write(tmp_path, "dev/dri/card0")
    # Whoever runs the tests as root may open everything.
    monkeypatch.setattr(os, "access", lambda path, _: "kfd" in str(path))
    found = read_graphics(tmp_path, "linux")
    assert found.denied == ("/dev/dri/renderD128",)
    assert len(found.denied_groups) == 1
