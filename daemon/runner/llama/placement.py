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
NO_TENSOR = "^$"  # a pattern that no name matches
# The tensors that hold the experts of a layer, also those of gpt-oss and of chunked experts.
EXPERTS = r"blk\.({layers})\.ffn_(up|down|gate|gate_up)_(ch|)exps"


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
    devices: tuple[int, ...] = ()  # ggml's handles, in place of llama.cpp's choice

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
        overrides = _override_buffer(self.host_experts)
        params.tensor_buft_overrides = ctypes.addressof(overrides)
        kept.append(overrides)
        if self.devices:
            devices = (ctypes.c_void_p * (len(self.devices) + 1))(*self.devices, None)
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


def place_drafter(names: Sequence[str], devices: Sequence[Device]) -> DevicePlacement:
    """All of a drafter on the first of the devices with these names.

    The others are those whose cache it reads as well: a context that lacks the device of a cache
    ends the process (GUIDE 10.1). The host is in every context.
    """
    found = {device.name: device.handle for device in devices if device.is_gpu}
    if names[0] not in found:
        return DevicePlacement(0, NO_GPU)
    handles = tuple(found[name] for name in dict.fromkeys(names) if name in found)
    split = (1.0, *[0.0] * (len(handles) - 1)) if len(handles) > 1 else ()
    return DevicePlacement(-1, split=split, devices=handles)


def _missing(load: Load, num_wanted: int, gpus: Sequence[Device]) -> str:
    names = ", ".join(gpu.name for gpu in gpus) or "none"
    return (
        f"unable to load model {load.model}: it is to use {num_wanted} GPUs, "
        f"and llama.cpp finds {len(gpus)} ({names})"
    )


def _override_buffer(host_experts: int) -> ctypes.Array[_BufferOverride]:
    """The override that holds the experts of the first layers on the host, and the end that
    llama.cpp looks for.

    With any override llama.cpp leaves pipeline parallelism out, which keeps up to four copies of
    the compute buffers for the next part of a batch; the engine's batches have one part. All layers
    are in one pattern, for llama.cpp compiles each pattern again for each tensor.
    """
    host = ggml_function("ggml_backend_cpu_buffer_type", ctypes.c_void_p)()
    layers = "|".join(map(str, range(host_experts)))
    pattern = EXPERTS.format(layers=layers) if layers else NO_TENSOR
    return (_BufferOverride * 2)(_BufferOverride(pattern.encode(), host))
