"""What was llama.cpp built for, and what does it find here?"""

from __future__ import annotations

import ctypes
import re
from collections import deque
from importlib.metadata import version

import msgspec
from llama_cpp import llama_cpp as lib

from .devices import Device, read_backends, read_devices, read_memory, select_used

BINDINGS = "llama-cpp-python"
BAD_LEVELS = (3, 4)  # GGML_LOG_LEVEL_WARN and GGML_LOG_LEVEL_ERROR
FEATURE = re.compile(r"(\w+) = 1\b")  # of llama_print_system_info, such as "AVX2 = 1"


class ProbedDevice(msgspec.Struct, frozen=True):
    """One device as it is now."""

    name: str  # ggml's: "CPU", "CUDA0"
    description: str  # "NVIDIA GeForce RTX 3090"
    kind: str  # "cpu", "gpu", "integrated", "accelerator" or "meta"
    backend: str  # "CPU", "CUDA"
    total_bytes: int
    free_bytes: int


class ProbedGpu(msgspec.Struct, frozen=True):
    """A GPU on which llama.cpp puts layers; fields as in the front's `Gpu`."""

    name: str
    description: str
    total_bytes: int
    free_bytes: int
    is_integrated: bool


class DeviceProbe(msgspec.Struct, frozen=True):
    """All that the front may want to know before a load."""

    bindings: str  # version of llama-cpp-python
    backends: tuple[str, ...]  # built in, or loaded: "CPU", "CUDA"
    supports_gpu_offload: bool
    features: tuple[str, ...]  # of the CPU, which the code for it uses: "AVX2", "AVX512"
    devices: tuple[ProbedDevice, ...]
    gpus: tuple[ProbedGpu, ...]  # those that are used, in the order of `main_gpu`
    errors: tuple[str, ...]  # what the backends say, such as a driver that is too old


def probe_devices() -> bytes:
    """A DeviceProbe as JSON. The memory of all devices is asked, which takes a GPU's driver about
    a second."""
    said: deque[str] = deque(maxlen=20)
    callback = lib.llama_log_callback(lambda level, text, _user: said.append(_line(level, text)))
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    devices = read_devices()
    probed = {device.name: _probe(device) for device in devices}
    features = FEATURE.findall(lib.llama_print_system_info().decode("utf-8", "replace"))
    probe = DeviceProbe(
        version(BINDINGS),
        read_backends(),
        bool(lib.llama_supports_gpu_offload()),
        tuple(features),
        tuple(probed.values()),
        tuple(_as_gpu(probed[device.name]) for device in select_used(devices)),
        tuple(filter(None, said)),
    )
    lib.llama_log_set(lib.llama_log_callback(), ctypes.c_void_p(0))  # before `callback` is freed
    return msgspec.json.encode(probe)


def _probe(device: Device) -> ProbedDevice:
    memory = read_memory(device)
    return ProbedDevice(
        device.name,
        device.description,
        device.kind,
        device.backend,
        memory.total_bytes,
        memory.free_bytes,
    )


def _as_gpu(device: ProbedDevice) -> ProbedGpu:
    return ProbedGpu(
        device.name,
        device.description,
        device.total_bytes,
        device.free_bytes,
        device.kind == "integrated",
    )


def _line(level: int, text: bytes) -> str:
    """A line of the log if it is an error or a warning; "" for others."""
    return text.decode("utf-8", "replace").strip() if level in BAD_LEVELS else ""
