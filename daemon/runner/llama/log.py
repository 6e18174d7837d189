"""What does llama.cpp say while it loads: why it fails, where layers go, how large buffers are?"""

from __future__ import annotations

import ctypes
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llama_cpp import llama_cpp as lib

from ...protocol import DeviceBytes
from .devices import Device

LOG_ERROR = 4  # GGML_LOG_LEVEL_ERROR
HOST = "CPU"  # ggml's name of the host as a device
MAPPED = "CPU_Mapped"  # of the buffer of weights that are a part of the mapped file

# Lines of the log (GUIDE 10.4).
BUFFER_SIZE = re.compile(
    r"(\S+) +(model|KV|RS|LoRA|compute|output|DSV4 .*state) buffer size = +([\d.]+) MiB"
)
LAYER_DEVICE = re.compile(r"layer +(\d+) assigned to device ([^,]+),")
BUFFER_SUFFIX = re.compile(r"_[A-Za-z]+$")  # of a device's other buffers: "CUDA0_Split"

PARTS = {  # fields of DeviceBytes, by llama.cpp's word for the kind of a buffer
    "model": "weights_bytes",
    "KV": "cache_bytes",
    "RS": "cache_bytes",
    "compute": "compute_bytes",
    "output": "compute_bytes",
    "LoRA": "adapter_bytes",
}
REPLACED = ("compute", "output")
"""Kinds of which a context has one on each device, logged again when it is made anew."""


@dataclass(frozen=True, slots=True)
class BufferKey:
    """Whose buffer of which kind is it, and where?"""

    is_drafter: bool
    kind: str  # llama.cpp's word: "model", "KV"
    name: str  # llama.cpp's: "CUDA0", "CPU_Mapped"

    @property
    def part(self) -> str:
        """The field of DeviceBytes that counts it."""
        return "drafter_bytes" if self.is_drafter else PARTS.get(self.kind, "cache_bytes")


class LlamaLog:
    """llama.cpp's log, the only source of error causes and buffer sizes (GUIDE 10.4)."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=20)
        self._sizes: dict[BufferKey, int] = {}
        self._is_drafter = False
        self.layer_devices: dict[int, str] = {}  # of the target; names as in ggml
        self._callback = lib.llama_log_callback(lambda level, text, _user: self.read(level, text))

    def listen(self) -> None:
        """Take the place of an earlier log. llama.cpp writes to it from now on, so it must stay
        referenced while a model is loaded."""
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    @contextmanager
    def of_drafter(self) -> Iterator[None]:
        """What is allocated in this block belongs to the drafter."""
        self._is_drafter = True
        try:
            yield
        finally:
            self._is_drafter = False

    def forget_drafter(self) -> None:
        """A drafter that was refused has been freed."""
        self._sizes = {key: size for key, size in self._sizes.items() if not key.is_drafter}

    def limit_mapped(self, model_bytes: int, copied_bytes: int) -> None:
        """Correct the mapped weights of the model that was loaded last.

        Their buffer reaches from the first to the last tensor of the file that the host uses. What
        lies between and was copied elsewhere takes no memory of the host. `copied_bytes`: what the
        host and a GPU both have.
        """
        weights = {
            key: size
            for key, size in self._sizes.items()
            if key.kind == "model" and key.is_drafter == self._is_drafter
        }
        mapped = [key for key in weights if key.name == MAPPED]
        others_bytes = sum(size for key, size in weights.items() if key not in mapped)
        has_gpu = any(not key.name.startswith(HOST) for key in weights)
        left_bytes = model_bytes - others_bytes + (copied_bytes if has_gpu else 0)
        for key in mapped:
            self._sizes[key] = max(min(weights[key], left_bytes), 0)

    def read(self, level: int, text: bytes) -> None:
        """One line, or a piece of one."""
        if level == LOG_ERROR:
            self._errors.append(text.decode("utf-8", "replace").strip())
        elif b"buffer size" in text:
            self._read_sizes(text.decode("utf-8", "replace"))
        elif b"assigned to device" in text and not self._is_drafter:
            for layer, device in LAYER_DEVICE.findall(text.decode("utf-8", "replace")):
                self.layer_devices[int(layer)] = device

    def _read_sizes(self, line: str) -> None:
        for name, kind, mib in BUFFER_SIZE.findall(line):
            key, size_bytes = BufferKey(self._is_drafter, kind, name), round(float(mib) * 2**20)
            known_bytes = 0 if kind in REPLACED else self._sizes.get(key, 0)
            self._sizes[key] = known_bytes + size_bytes

    @property
    def cause(self) -> str:
        """The first error, which names the cause; the later ones follow from it."""
        return self._errors[0].partition(": ")[2] or self._errors[0] if self._errors else "unknown"

    def measure(self, gpus: Sequence[Device]) -> tuple[DeviceBytes, ...]:
        """What is allocated on each device, the host first."""
        devices = {gpu.buffer_name: gpu.name for gpu in gpus}
        sizes: dict[str, dict[str, int]] = {HOST: {}}
        for key, size_bytes in self._sizes.items():
            of_device = sizes.setdefault(find_device(key.name, devices), {})
            of_device[key.part] = of_device.get(key.part, 0) + size_bytes
        return tuple(DeviceBytes(name, name != HOST, **parts) for name, parts in sizes.items())


def find_device(buffer: str, devices: Mapping[str, str]) -> str:
    """The device with a buffer of this name: a GPU, or HOST ("CPU_Mapped", "CUDA_Host").

    `devices`: names of GPUs by the names of their own buffers.
    """
    plain = BUFFER_SUFFIX.sub("", buffer)
    return devices.get(buffer) or devices.get(plain) or HOST
