"""On which devices do the layers of a model lie (GUIDE 9.5)?"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from llama_cpp import llama_cpp as lib

from ...errors import LoadFailed
from ...protocol import Load
from .devices import Device, ggml_function, read_devices, select_used

NO_GPU = -1  # `main_gpu` with LLAMA_SPLIT_MODE_NONE: no device but the host
# The tensors that hold the experts of a layer, also those of gpt-oss and of chunked experts.
EXPERTS = r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps"


class _BufferOverride(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class DevicePlacement:
    """What a load says about devices, in llama.cpp's terms."""

    gpu_layers: int  # from the last on; -1: all
    only_gpu: int | None = None  # the one that is used, or NO_GPU; None: all
    split: tuple[float, ...] = ()  # share of the layers of each GPU; (): by free memory
    host_experts: int = 0  # layers from the first on whose expert tensors stay on the host
    device: int | None = None  # ggml's handle of the one device; None: those of llama.cpp

    def apply(self, params: lib.llama_model_params) -> object:
        """Write it into the parameters. The result must stay referenced until the model is
        freed."""
        params.n_gpu_layers = self.gpu_layers
        if self.only_gpu is not None:
            params.split_mode, params.main_gpu = lib.LLAMA_SPLIT_MODE_NONE, self.only_gpu
        kept: list[object] = []
        if self.split:
            params.split_mode = lib.LLAMA_SPLIT_MODE_LAYER
            params.tensor_split = split = (ctypes.c_float * lib.llama_max_devices())(*self.split)
            kept.append(split)
        if self.host_experts:
            overrides = _keep_on_host(self.host_experts)
            params.tensor_buft_overrides = ctypes.addressof(overrides)
            kept.append(overrides)
        if self.device is not None:
            devices = (ctypes.c_void_p * 2)(self.device, None)
            params.devices = ctypes.addressof(devices)
            kept.append(devices)
        return kept


def place_target(load: Load) -> DevicePlacement:
    """Where the layers of the model go. Raises LoadFailed for GPUs that are not there."""
    gpus = select_used(read_devices()) if load.tensor_split or load.main_gpu else ()
    return decide_placement(load, gpus)


def decide_placement(load: Load, gpus: Sequence[Device]) -> DevicePlacement:
    """The same for these GPUs, which only a load that names one needs."""
    if load.gpu_layers == 0:
        return DevicePlacement(0, NO_GPU)
    only = load.main_gpu
    if load.tensor_split:
        if len(load.tensor_split) > len(gpus):
            raise LoadFailed(_missing(load, len(load.tensor_split), gpus))
        used = [gpu for gpu, share in enumerate(load.tensor_split) if share > 0]
        if len(used) > 1:
            return DevicePlacement(load.gpu_layers, None, load.tensor_split, load.host_experts)
        only = used[0] if used else only
    elif only and gpus and only >= len(gpus):
        raise LoadFailed(_missing(load, only + 1, gpus))
    return DevicePlacement(load.gpu_layers, only, (), load.host_experts)


def place_drafter(device: str) -> DevicePlacement:
    """All of a drafter on the device of this name; on the host if it is no GPU."""
    found = next((d for d in read_devices() if d.name == device and d.is_gpu), None)
    return DevicePlacement(-1, device=found.handle) if found else DevicePlacement(0, NO_GPU)


def _missing(load: Load, num_wanted: int, gpus: Sequence[Device]) -> str:
    names = ", ".join(gpu.name for gpu in gpus) or "none"
    return (
        f"unable to load model {load.model}: it is to use {num_wanted} GPUs, "
        f"and llama.cpp finds {len(gpus)} ({names})"
    )


def _keep_on_host(layers: int) -> ctypes.Array[_BufferOverride]:
    """Overrides that hold the experts of the first layers on the host, and the end that llama.cpp
    looks for."""
    host = ggml_function("ggml_backend_cpu_buffer_type", ctypes.c_void_p)()
    overrides = (_BufferOverride * (layers + 1))()
    for layer in range(layers):
        overrides[layer] = _BufferOverride(EXPERTS.format(layer=layer).encode(), host)
    return overrides
