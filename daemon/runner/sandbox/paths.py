"""Which files does a runner need, beside those of its model?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ...protocol import Load
from .landlock import KEEP, LIST, READ, RUN, USE, PathRule

# Packages that may lie apart from the others, in a checkout.
PACKAGES = ("outrider.daemon", "outrider.models", "outrider.quant", "llama_cpp", "llguidance")
# Libraries of the system and of GPU drivers, and what the dynamic linker and drivers read.
LIBRARIES = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store", "/run/opengl-driver"),
    *("/opt/rocm", "/opt/cuda", "/opt/intel", "/etc/ld.so.cache", "/etc/ld.so.preload"),
    *("/etc/alternatives", "/etc/localtime", "/etc/ssl/openssl.cnf", "/etc/vulkan", "/etc/OpenCL"),
    *("/etc/nvidia", "/etc/drirc", "/etc/glvnd", "/proc", "/sys"),
)
# Variables with further folders or files of libraries, separated by colons.
LIBRARY_VARIABLES = (
    *("LD_LIBRARY_PATH", "CUDA_PATH", "CUDA_HOME", "ROCM_PATH", "HIP_PATH"),
    *("VK_ICD_FILENAMES", "VK_DRIVER_FILES", "OCL_ICD_VENDORS"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# Device files of GPUs, as patterns below /dev: NVIDIA, AMD and Intel, WSL, Jetson.
GPUS = ("nvidia*", "dri", "kfd", "dxg", "nvhost*", "nvmap")
# Where drivers put compiled code. The user's own caches are shared with programs that trust them,
# so a runner has a folder apart.
CACHE_VARIABLES = ("CUDA_CACHE_PATH", "MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH")
LOADER = b"ld-"  # how the name of the dynamic linker begins, in the head of every program
HEAD_BYTES = 4096


def runner_rules(load: Load) -> list[PathRule]:
    """What a runner with this load needs. Makes its folders, and names them to the drivers."""
    rules = [*python_rules(), *_execution_rules()]
    files = (load.model, load.draft, *load.adapters)
    rules += (PathRule(Path(file), READ) for file in files if file)
    rules += (PathRule(Path(device), USE) for device in DEVICES)
    rules.append(PathRule(Path("/dev"), LIST))
    gpus = [device for pattern in GPUS for device in Path("/dev").glob(pattern)]
    rules += (PathRule(device, USE) for device in gpus)
    if load.profile:
        profiles = Path(load.profile).parent
        folders = [profiles, profiles.parent / "gpu"] if gpus else [profiles]
        if gpus:
            _name_cache(folders[1])
        rules += (PathRule(folder, KEEP) for folder in folders if _make(folder))
    return rules


def python_rules() -> Iterator[PathRule]:
    """To read Python, its packages and the libraries of the system.

    `python -m` puts the folder in which the daemon was started first, often a home: it is left out.
    """
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, *LIBRARIES}
    places.update(sys.path if sys.flags.safe_path else sys.path[1:])
    for package in PACKAGES:
        spec = find_spec(package)
        places.update((spec and spec.submodule_search_locations) or ())
    for variable in LIBRARY_VARIABLES:
        places.update(os.environ.get(variable, "").split(os.pathsep))
    for place in sorted(places):
        if os.path.isabs(place):
            yield PathRule(Path(place), READ)


def _execution_rules() -> Iterator[PathRule]:
    """To start Python for rendering: the interpreter, and the dynamic linker that it names."""
    for program in {sys.executable, shutil.which(sys.executable) or sys.executable}:
        yield PathRule(Path(program), RUN)
        if loader := _read_loader(Path(program)):
            yield PathRule(loader, RUN)


def _read_loader(program: Path) -> Path | None:
    """The dynamic linker that the head of an ELF file names."""
    try:
        with program.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    names = (part for part in head.split(b"\0") if part.startswith(b"/") and LOADER in part)
    return next((Path(os.fsdecode(name)) for name in names), None)


def _name_cache(folder: Path) -> None:
    for variable in CACHE_VARIABLES:
        os.environ.setdefault(variable, str(folder))
    os.environ["TMPDIR"] = str(folder)  # compilers of drivers put files there, too


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # then nothing is kept there; the writer of profiles logs why
        return False
    return True
