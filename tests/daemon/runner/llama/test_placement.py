"""What a load says about devices, in llama.cpp's terms."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import msgspec
import pytest
from llama_cpp import llama_cpp as lib
from outrider.daemon.errors import LoadFailed
from outrider.daemon.protocol import Load
from outrider.daemon.runner.llama.devices import Device, DeviceKind, select_used
from outrider.daemon.runner.llama.placement import (
    NO_GPU,
    DevicePlacement,
    decide_placement,
    place_drafter,
)

pytestmark = pytest.mark.unit


def device(name: str, backend: str, kind: DeviceKind = "gpu") -> Device:
    return Device(name, f"the device {name}", kind, backend, handle=0)


CUDA = (device("CUDA0", "CUDA"), device("CUDA1", "CUDA"))
LOAD = Load("m.gguf", 512, cells=512, slots=1, batch=64)


def decide(gpus: tuple[Device, ...] = CUDA, **changes: object) -> DevicePlacement:
    return decide_placement(msgspec.structs.replace(LOAD, **changes), gpus)


def overrides(params: lib.llama_model_params) -> list[bytes | None]:
    """The patterns of two overrides, each with the address of a buffer type beside it."""
    words = ctypes.cast(params.tensor_buft_overrides, ctypes.POINTER(ctypes.c_void_p))
    return [ctypes.string_at(words[i]) if words[i] else None for i in (0, 2)]


def test_without_a_plan_llama_cpp_decides() -> None:
    assert decide() == DevicePlacement(-1)
    assert decide(gpu_layers=12) == DevicePlacement(12)


def test_no_layers_means_no_gpu_at_all() -> None:
    """Otherwise compute buffers would be made there, too."""
    assert decide(gpu_layers=0, host_experts=4) == DevicePlacement(0, NO_GPU)


def test_one_gpu_is_used_alone() -> None:
    assert decide(main_gpu=1) == DevicePlacement(-1, only_gpu=1)
    assert decide(tensor_split=(0.0, 1.0)) == DevicePlacement(-1, only_gpu=1)
    assert decide(gpu_layers=3, main_gpu=0) == DevicePlacement(3, only_gpu=0)


def test_several_gpus_share_the_layers() -> None:
    placed = decide(gpu_layers=20, tensor_split=(3.0, 1.0), host_experts=2)
    assert placed == DevicePlacement(20, None, (3.0, 1.0), 2)


def test_gpus_that_are_not_there_are_named() -> None:
    with pytest.raises(LoadFailed, match=r"use 3 GPUs, and llama.cpp finds 2 \(CUDA0, CUDA1\)"):
        decide(tensor_split=(1.0, 1.0, 1.0))
    with pytest.raises(LoadFailed, match="it is to use 3 GPUs, and"):
        decide(main_gpu=2)
    with pytest.raises(LoadFailed, match=r"use 2 GPUs, and llama.cpp finds 0 \(none\)"):
        decide((), tensor_split=(1.0, 1.0))


def test_a_machine_without_gpu_ignores_its_number() -> None:
    """As Ollama does: the option is often in a Modelfile that was written elsewhere."""
    assert decide((), main_gpu=1) == DevicePlacement(-1, only_gpu=1)


def test_the_parameters_point_to_what_is_kept() -> None:
    params = lib.llama_model_default_params()
    kept = DevicePlacement(9, None, (3.0, 1.0), host_experts=2).apply(params)
    assert (params.n_gpu_layers, params.split_mode) == (9, lib.LLAMA_SPLIT_MODE_LAYER)
    assert list(params.tensor_split[:3]) == [3.0, 1.0, 0.0]
    assert overrides(params) == [rb"blk\.(0|1)\.ffn_(up|down|gate|gate_up)_(ch|)exps", None]
    assert kept


def test_pipeline_parallelism_is_left_out() -> None:
    """Any override does so; this one is of no tensor."""
    params = lib.llama_model_default_params()
    kept = DevicePlacement(-1).apply(params)
    assert overrides(params) == [b"^$", None]
    assert kept


def test_a_drafter_lies_beside_the_cache_that_it_shares() -> None:
    first, second = (
        replace(gpu, handle=handle) for gpu, handle in zip(CUDA, (11, 12), strict=True)
    )
    assert place_drafter(["CPU", "CPU"], [first, second]) == DevicePlacement(0, NO_GPU)
    assert place_drafter(["CUDA1", "CUDA1"], [first, second]) == DevicePlacement(-1, devices=(12,))
    assert place_drafter(["CUDA1", "CPU"], [first, second]) == DevicePlacement(-1, devices=(12,))
    both = DevicePlacement(-1, split=(1.0, 0.0), devices=(12, 11))
    assert place_drafter(["CUDA1", "CUDA0"], [first, second]) == both


def test_llama_cpp_counts_remote_gpus_first_and_integrated_ones_last() -> None:
    cpu, igpu = device("CPU", "CPU", "cpu"), device("Vulkan0", "Vulkan", "integrated")
    rpc = device("RPC0", "RPC")
    assert select_used([cpu, *CUDA, igpu, rpc]) == (rpc, *CUDA)
    assert select_used([cpu, igpu, rpc]) == (rpc, igpu)
    assert select_used([cpu, igpu, device("MTL0", "MTL", "integrated")]) == (igpu,)
    assert select_used([cpu]) == ()
