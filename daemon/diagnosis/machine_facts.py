"""How are the facts about this machine read? Everything but GPUs, llama.cpp and the disk."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import struct
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import psutil

from ..runners.cgroup import read_memory_limit, read_text
from ..runners.cores import DecodingCores, read_cores, read_sysctl
from .facts import Installation, Memory, Processor

# Features of an x86 processor that llama.cpp can be built for: Linux' name, llama.cpp's name.
FEATURES: Mapping[str, str] = {
    "avx": "AVX",
    "avx2": "AVX2",
    "f16c": "F16C",
    "fma": "FMA",
    "bmi2": "BMI2",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
}
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
GPU_COMPILERS = ("nvcc", "hipcc", "glslc")
HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
CONTAINER_FILES = ("run/.containerenv", ".dockerenv")
CONTAINER_MARKS = ("docker", "kubepods", "containerd", "lxc", "libpod")


def read_processor(root: Path, cores: DecodingCores | None = None) -> Processor:
    """The CPU by /proc under `root`, with the cores that decode (default: this process's)."""
    cores = cores or read_cores()
    info = _cpu_info(root)
    flags = set(info.get("flags", "").split())
    return Processor(
        name=info.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        features=tuple(name for flag, name in FEATURES.items() if flag in flags),
        logical=os.cpu_count() or 1,
        threads=cores.count,
        efficiency=cores.efficiency,
        remote=cores.remote,
        quota=cores.quota,
    )


def read_memory(root: Path) -> Memory:
    """The host's memory; the limits by the files under `root`."""
    host, swap = psutil.virtual_memory(), psutil.swap_memory()
    chosen = read_text(root / HUGE_PAGES).partition("[")[2].partition("]")[0]
    return Memory(
        total_bytes=int(host.total),
        available_bytes=int(host.available),
        limit_bytes=read_memory_limit(root),
        swap_used_bytes=int(swap.used),
        huge_pages=chosen,
    )


def read_installation(environment: Mapping[str, str]) -> Installation:
    """This Python, and the limits of its process."""
    return Installation(
        outrider=version("outrider"),
        executable=sys.executable,
        python=platform.python_version(),
        is_64_bit=struct.calcsize("P") == 8,
        is_debug_build=bool(sysconfig.get_config_var("Py_DEBUG")),
        is_translated=sys.platform == "darwin" and read_sysctl("sysctl.proc_translated") == 1,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        user=_user(),
        compilers=tuple(name for name in GPU_COMPILERS if shutil.which(name)),
        hides_gpus=tuple(f"{name}={environment[name]}" for name in HIDING if name in environment),
    )


def is_container(root: Path) -> bool:
    """Whether the files under `root` look like those of a container."""
    marks = read_text(root / "proc/1/cgroup") + read_text(root / "proc/self/cgroup")
    return any((root / name).exists() for name in CONTAINER_FILES) or any(
        mark in marks for mark in CONTAINER_MARKS
    )


def _cpu_info(root: Path) -> dict[str, str]:
    """The lines about the first CPU."""
    first = read_text(root / "proc/cpuinfo").partition("\n\n")[0]
    return dict(_pairs(first.splitlines()))


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def _user() -> str:
    try:
        return psutil.Process().username()
    except (KeyError, psutil.Error):
        return ""
