"""Is a GPU there that llama.cpp does not use, and why? Pure functions of the facts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from .facts import Finding, GraphicsCard, MachineFacts, Vendor

# Backends that decode on the GPUs of a maker, and the flag and the compiler of the first one.
BACKENDS: Mapping[Vendor, tuple[str, ...]] = {
    "NVIDIA": ("cuda", "vulkan"),
    "AMD": ("vulkan", "hip"),
    "Intel": ("vulkan", "sycl"),
    "Apple": ("metal",),
}
BUILDS: Mapping[str, tuple[str, str, str]] = {
    "cuda": ("-DGGML_CUDA=on", "nvcc", "the CUDA toolkit (nvcc)"),
    "vulkan": ("-DGGML_VULKAN=on", "glslc", "the Vulkan SDK (glslc, headers and loader)"),
    "metal": ("-DGGML_METAL=on", "", ""),
}
NO_DRIVER = {"nouveau", "nvidiafb", "", "vfio-pci"}  # kernel drivers with which nothing computes


def check_gpus(facts: MachineFacts) -> Iterator[Finding]:
    """One finding for each maker whose GPUs are not used: the first reason that holds."""
    vendors = {card.vendor: card for card in reversed(facts.graphics.cards)}
    uses_gpu = any(device.kind in ("gpu", "integrated") for device in facts.llama.devices)
    for vendor, card in vendors.items():
        own = [each for each in facts.graphics.cards if each.vendor == vendor]
        is_minor = all(each.is_integrated for each in own) and vendor != "Apple"
        if is_minor and uses_gpu:  # llama.cpp uses integrated GPUs only where there is no other
            continue
        if found := _unused(facts, card):
            text, remedy = found
            yield Finding(text, remedy, is_problem=not is_minor)


def build_command(facts: MachineFacts, flags: str = "") -> str:
    """The command that builds llama.cpp anew, on this machine, with these flags of CMake."""
    pinned = f"llama-cpp-python=={facts.llama.required or facts.llama.version}"
    python = shlex.quote(facts.installation.executable)
    arguments = "--force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python"
    before = f'CMAKE_ARGS="{flags}" ' if flags else ""
    return f"{before}{python} -m pip install {arguments} {pinned}"


def _unused(facts: MachineFacts, card: GraphicsCard) -> tuple[str, str] | None:
    """Why GPUs of this maker are not used, and what helps; None: they are, as far as is known."""
    told = f"{'integrated ' if card.is_integrated else ''}{card.vendor} GPU".strip()
    if card.vendor == "NVIDIA" and (found := _nvidia_driver(facts, card)):
        return found
    built = [name for name in BACKENDS[card.vendor] if name in facts.llama.backends]
    if not built:
        other = [name for name in facts.llama.backends if name in BUILDS]
        is_for = f"for {' and '.join(other)} alone" if other else "for the CPU"
        text = f"{told} found, but llama.cpp was built {is_for}"
        return text, _reinstall(facts, BACKENDS[card.vendor][0])
    if card.vendor != "NVIDIA" and facts.graphics.denied:
        files, groups = facts.graphics.denied, ",".join(facts.graphics.denied_groups)
        text = f"{told} found, but {facts.installation.user} must not open {' and '.join(files)}"
        user = shlex.quote(facts.installation.user)
        return text, f"sudo usermod -aG {groups} {user}   (then log in again)"
    if facts.llama.devices and not any(each.kind != "cpu" for each in facts.llama.devices):
        text = f"{told} found, and llama.cpp was built for {' and '.join(built)}, but finds none"
        return text, _find_none(facts, card)
    return None


def _nvidia_driver(facts: MachineFacts, card: GraphicsCard) -> tuple[str, str] | None:
    """What is wrong between the GPU and CUDA."""
    graphics = facts.graphics
    if facts.is_container and not graphics.has_nvidia_device:
        text = "NVIDIA GPU found, but this container may not use it: there is no /dev/nvidia0"
        return (
            text,
            "start the container with: docker run --gpus all ... (NVIDIA Container Toolkit)",
        )
    if not graphics.nvidia_driver and card.driver in NO_DRIVER:
        has = f"driven by {card.driver}" if card.driver else "without a driver"
        text = f"NVIDIA GPU found, but it is {has}; llama.cpp needs NVIDIA's driver"
        return text, "install NVIDIA's driver, and restart; on Ubuntu: sudo ubuntu-drivers install"
    if not graphics.has_nvidia_device:
        text = "NVIDIA GPU found, and its driver is loaded, but there is no /dev/nvidia0"
        return text, "sudo nvidia-modprobe -u -c=0"
    return None


def _reinstall(facts: MachineFacts, backend: str) -> str:
    flag, compiler, package = BUILDS[backend]
    command = build_command(facts, flag)
    if compiler and compiler not in facts.installation.compilers:
        return f"install {package}, then reinstall llama.cpp: {command}"
    return f"reinstall llama.cpp: {command}"


def _find_none(facts: MachineFacts, card: GraphicsCard) -> str:
    if facts.installation.hides_gpus:
        names = " ".join(each.partition("=")[0] for each in facts.installation.hides_gpus)
        return (
            f"the environment hides it ({', '.join(facts.installation.hides_gpus)}): unset {names}"
        )
    if card.vendor == "NVIDIA":
        return "see whether the driver works, and fits the CUDA toolkit: nvidia-smi"
    return "see whether the driver works: vulkaninfo --summary"
