"""`python -m outrider.daemon.runner.llama.inventory`: which devices has llama.cpp, as JSON?"""

from __future__ import annotations

import re

import msgspec
from llama_cpp import llama_cpp as lib

from .devices import Device, read_devices, read_memory

ENABLED = re.compile(r"(\w+) = 1\b")


def main() -> None:
    """Prints the devices with their memory, and the CPU's features that llama.cpp is built for."""
    features = ENABLED.findall(lib.llama_print_system_info().decode("utf-8", "replace"))
    devices = [_describe(device) for device in read_devices()]
    print(msgspec.json.encode({"devices": devices, "features": features}).decode())


def _describe(device: Device) -> dict[str, object]:
    memory = read_memory(device)
    return {
        "name": device.name,
        "description": device.description,
        "kind": device.kind,
        "free_bytes": memory.free_bytes,
        "total_bytes": memory.total_bytes,
    }


if __name__ == "__main__":
    main()
