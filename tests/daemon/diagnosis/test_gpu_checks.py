"""Why is a GPU not used, and which command helps? On made-up facts."""

from __future__ import annotations

import msgspec
import pytest
from outrider.daemon.diagnosis.facts import (
    Graphics,
    GraphicsCard,
    Installation,
    LlamaBuild,
    LlamaDevice,
    MachineFacts,
)
from outrider.daemon.diagnosis.gpu_checks import check_gpus

pytestmark = pytest.mark.unit

PIP = (
    "/venv/bin/python -m pip install --force-reinstall --no-deps --no-cache-dir "
    "--no-binary llama-cpp-python llama-cpp-python==0.3.36"
)
CPU = LlamaDevice("CPU", "a processor", "cpu")
CUDA = LlamaDevice("CUDA0", "NVIDIA GeForce RTX 3090", "gpu")
NVIDIA = GraphicsCard("NVIDIA", "0000:01:00.0", "nvidia")
INTEL = GraphicsCard("Intel", "0000:00:02.0", "i915", is_integrated=True)
RADEON = GraphicsCard("AMD", "0000:03:00.0", "amdgpu")
READY = Graphics((NVIDIA,), nvidia_driver="550.54.14", has_nvidia_device=True)


def facts(
    graphics: Graphics,
    backends: tuple[str, ...] = ("cpu",),
    devices: tuple[LlamaDevice, ...] = (CPU,),
    **changes: object,
) -> MachineFacts:
    build = LlamaBuild("0.3.36", "0.3.36", backends, devices=devices)
    own = Installation(executable="/venv/bin/python", user="ada", compilers=("nvcc", "glslc"))
    plain = MachineFacts(graphics=graphics, llama=build, installation=own)
    return msgspec.structs.replace(plain, **changes)


def told(given: MachineFacts) -> list[tuple[str, str, bool]]:
    return [(each.text, each.remedy, each.is_problem) for each in check_gpus(given)]


def test_a_gpu_that_is_used_is_no_finding() -> None:
    assert told(facts(READY, ("cpu", "cuda"), (CUDA, CPU))) == []
    assert told(facts(READY, ("cpu", "vulkan"), (CUDA, CPU))) == []
    assert told(facts(Graphics())) == []


def test_llama_cpp_was_built_for_the_cpu() -> None:
    text = "NVIDIA GPU found, but llama.cpp was built for the CPU"
    remedy = f'reinstall llama.cpp: CMAKE_ARGS="-DGGML_CUDA=on" {PIP}'
    assert told(facts(READY)) == [(text, remedy, True)]


def test_the_compiler_is_missing_too() -> None:
    own = Installation(executable="/venv/bin/python")
    [(_, remedy, _)] = told(facts(READY, installation=own))
    assert remedy.startswith(
        "install the CUDA toolkit (nvcc), then reinstall llama.cpp: CMAKE_ARGS"
    )


def test_the_reason_that_is_found_before_starting_llama_cpp_is_the_same() -> None:
    assert told(facts(READY, devices=())) == told(facts(READY))
    assert told(facts(READY, ("cpu", "cuda"), devices=())) == []


def test_it_was_built_for_another_gpu() -> None:
    [(text, remedy, _)] = told(facts(Graphics((RADEON,)), ("cpu", "cuda")))
    assert text == "AMD GPU found, but llama.cpp was built for cuda alone"
    assert '"-DGGML_VULKAN=on"' in remedy


@pytest.mark.parametrize(
    ("driver", "told_driver"), [("nouveau", "driven by nouveau"), ("", "without a driver")]
)
def test_the_driver_is_missing(driver: str, told_driver: str) -> None:
    graphics = Graphics((GraphicsCard("NVIDIA", "0000:01:00.0", driver),))
    [(text, remedy, _)] = told(facts(graphics, ("cpu", "cuda")))
    assert told_driver in text
    assert "ubuntu-drivers install" in remedy


def test_a_container_without_devices() -> None:
    graphics = Graphics((NVIDIA,), nvidia_driver="550.54.14")
    [(text, remedy, _)] = told(facts(graphics, ("cpu", "cuda"), is_container=True))
    assert "this container may not use it" in text
    assert "docker run --gpus all" in remedy
    [(text, remedy, _)] = told(facts(graphics, ("cpu", "cuda")))
    assert "no /dev/nvidia0" in text
    assert remedy == "sudo nvidia-modprobe -u -c=0"


def test_the_environment_hides_it() -> None:
    own = Installation(hides_gpus=("CUDA_VISIBLE_DEVICES=-1",))
    [(text, remedy, _)] = told(facts(READY, ("cpu", "cuda"), installation=own))
    assert text == "NVIDIA GPU found, and llama.cpp was built for cuda, but finds none"
    assert remedy.endswith("(CUDA_VISIBLE_DEVICES=-1): unset CUDA_VISIBLE_DEVICES")
    assert "nvidia-smi" in told(facts(READY, ("cpu", "cuda")))[0][1]


def test_the_user_is_in_no_group_that_may() -> None:
    graphics = Graphics((RADEON,), denied=("/dev/dri/renderD128",), denied_groups=("render",))
    [(text, remedy, _)] = told(facts(graphics, ("cpu", "vulkan")))
    assert text == "AMD GPU found, but ada must not open /dev/dri/renderD128"
    assert remedy.startswith("sudo usermod -aG render ada ")


def test_an_integrated_gpu_is_a_note() -> None:
    [(text, _, is_problem)] = told(facts(Graphics((INTEL,))))
    assert (text.split(",")[0], is_problem) == ("integrated Intel GPU found", False)


def test_an_integrated_gpu_beside_one_in_use_is_nothing() -> None:
    graphics = msgspec.structs.replace(READY, cards=(INTEL, NVIDIA))
    assert told(facts(graphics, ("cpu", "cuda"), (CUDA, CPU))) == []


def test_apple_without_metal() -> None:
    graphics = Graphics((GraphicsCard("Apple", driver="Metal", is_integrated=True),))
    [(_, remedy, is_problem)] = told(facts(graphics))
    assert '"-DGGML_METAL=on"' in remedy
    assert is_problem
