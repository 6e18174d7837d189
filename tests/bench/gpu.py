"""Is there a GPU here, and does this llama.cpp decode on it?"""

from __future__ import annotations

import subprocess

import llama_cpp

from .failure import BenchFailed

QUERY = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def require_gpu() -> None:
    """Raises BenchFailed without a GPU, also for a build with CUDA whose driver finds none."""
    if not llama_cpp.llama_supports_gpu_offload():
        raise BenchFailed("this llama.cpp has no GPU to decode on; `make bench-gpu` builds one")


def gpu_name() -> str:
    """The GPU of the measurements; "none" if llama.cpp uses only the CPU."""
    if not llama_cpp.llama_supports_gpu_offload():
        return "none"
    try:
        names = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return ", ".join(names.split("\n")).strip(", ")
