"""Which devices has llama.cpp here, and how much of their memory is free (GUIDE 1.9)?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from llama_cpp import llama_cpp as lib

DeviceKind = Literal["cpu", "gpu", "integrated", "accelerator", "meta"]
KINDS: tuple[DeviceKind, ...] = get_args(DeviceKind)  # in the order of ggml_backend_dev_type
RPC = "RPC"  # the backend of devices on other machines


@dataclass(frozen=True, slots=True)
class Device:
    """One device of one backend."""

    name: str  # ggml's: "CPU", "CUDA0"
    description: str  # "NVIDIA GeForce RTX 3090"
    kind: DeviceKind
    backend: str  # "CPU", "CUDA", "RPC"
    handle: int  # ggml_backend_dev_t
    buffer_name: str = ""  # of its own buffers: "CUDA0", "RPC0[127.0.0.1:50052]"

    @property
    def is_gpu(self) -> bool:
        return self.kind in ("gpu", "integrated")


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """The memory of a device, as its driver sees it now."""

    free_bytes: int
    total_bytes: int


class _DeviceCaps(ctypes.Structure):
    """ggml_backend_dev_caps."""

    _fields_ = tuple(
        (name, ctypes.c_bool)
        for name in ("async_", "host_buffer", "buffer_from_host_ptr", "events", "mmap_support")
    )


class _DeviceProps(ctypes.Structure):
    """ggml_backend_dev_props."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("caps", _DeviceCaps),
    )


def ggml_function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml; the library of llama.cpp finds those that it is linked to."""
    return ctypes.CFUNCTYPE(result, *arguments)((name, lib._lib))


def read_devices() -> tuple[Device, ...]:
    """All devices, in ggml's order. Looks for drivers at the first call, and asks no memory."""
    count = ggml_function("ggml_backend_dev_count", ctypes.c_size_t)
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_read_device(get(index)) for index in range(count()))


def read_backends() -> tuple[str, ...]:
    """The backends that are built in, or loaded: "CPU", "CUDA"."""
    count = ggml_function("ggml_backend_reg_count", ctypes.c_size_t)
    get = ggml_function("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_backend_name(get(index)) for index in range(count()))


def read_memory(device: Device) -> DeviceMemory:
    """Its memory now. With CUDA this takes some of it, for the context of the process."""
    size = ctypes.POINTER(ctypes.c_size_t)
    read = ggml_function("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    read(device.handle, ctypes.byref(free), ctypes.byref(total))
    return DeviceMemory(free.value, total.value)


def select_used(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The GPUs on which llama.cpp puts layers, in its order: `main_gpu` and `tensor_split` count
    them (GUIDE 1.9)."""
    remote = [device for device in devices if device.kind == "gpu" and device.backend == RPC]
    local = [device for device in devices if device.kind == "gpu" and device.backend != RPC]
    integrated = [device for device in devices if device.kind == "integrated"]
    one_backend = (device for device in integrated if device.backend == integrated[0].backend)
    return (*remote, *(_distinct(local) if local else one_backend))


def _distinct(gpus: Sequence[Device]) -> Iterator[Device]:
    """Without those that an earlier backend has already, such as CUDA's as Vulkan sees them."""
    if len({gpu.backend for gpu in gpus}) == 1:
        yield from gpus
        return
    seen: set[str] = set()
    for gpu in gpus:
        if (identity := _read_identity(gpu)) not in seen:
            yield gpu
        if identity:
            seen.add(identity)


def _read_identity(device: Device) -> str:
    """Where the device is on the PCI bus; "" if ggml does not know."""
    read = ggml_function(
        "ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_DeviceProps)
    )
    props = _DeviceProps()
    read(device.handle, ctypes.byref(props))
    return (props.device_id or b"").decode()


def _read_device(handle: int) -> Device:
    text, pointer = ctypes.c_char_p, ctypes.c_void_p
    name = ggml_function("ggml_backend_dev_name", text, pointer)
    description = ggml_function("ggml_backend_dev_description", text, pointer)
    kind = ggml_function("ggml_backend_dev_type", ctypes.c_int, pointer)
    backend = ggml_function("ggml_backend_dev_backend_reg", pointer, pointer)
    buffer_type = ggml_function("ggml_backend_dev_buffer_type", pointer, pointer)
    buffer_name = ggml_function("ggml_backend_buft_name", text, pointer)
    return Device(
        name(handle).decode("utf-8", "replace"),
        description(handle).decode("utf-8", "replace"),
        KINDS[kind(handle)],
        _backend_name(backend(handle)),
        handle,
        buffer_name(buffer_type(handle)).decode("utf-8", "replace"),
    )


def _backend_name(handle: int) -> str:
    name = ggml_function("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    return str(name(handle).decode("utf-8", "replace"))
