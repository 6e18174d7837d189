"""Are facts read as they are: processor, build of llama.cpp, folder of models, this process?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from outrider.daemon.diagnosis.llama_build import read_backends, read_build
from outrider.daemon.diagnosis.machine_facts import (
    is_container,
    read_installation,
    read_memory,
    read_processor,
)
from outrider.daemon.diagnosis.models_folder import read_folder
from outrider.daemon.runners.cores import DecodingCores

pytestmark = pytest.mark.unit

CPUINFO = """processor\t: 0
model name\t: A Processor @ 3.00GHz
flags\t\t: fpu avx avx2 f16c sse

processor\t: 1
model name\t: Another
flags\t\t: avx512f
"""


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_processor(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", CPUINFO)
    cores = DecodingCores((), 3, efficiency=2, remote=1, quota=2.5)
    found = read_processor(tmp_path, cores)
    assert (found.name, found.features) == ("A Processor @ 3.00GHz", ("AVX", "AVX2", "F16C"))
    assert (found.threads, found.efficiency, found.remote, found.quota) == (3, 2, 1, 2.5)


def test_memory(tmp_path: Path) -> None:
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "1073741824\n")
    found = read_memory(tmp_path)
    assert (found.huge_pages, found.limit_bytes) == ("never", 1 << 30)
    assert 0 < found.available_bytes <= found.total_bytes


def test_containers(tmp_path: Path) -> None:
    assert not is_container(tmp_path)
    write(tmp_path, "a/.dockerenv")
    write(tmp_path, "b/proc/self/cgroup", "0::/kubepods/pod1/c")
    assert is_container(tmp_path / "a")
    assert is_container(tmp_path / "b")


def test_this_installation() -> None:
    found = read_installation({"CUDA_VISIBLE_DEVICES": "", "HOME": "/root"})
    assert found.hides_gpus == ("CUDA_VISIBLE_DEVICES=",)
    assert found.is_64_bit
    assert Path(found.executable).exists()


@pytest.mark.parametrize(
    ("files", "backends"),
    [
        (["libggml-base.so", "libggml-cpu.so", "libggml-cpu.so.0", "libggml.so"], ["cpu"]),
        (["libggml-cpu-haswell.so", "libggml-cuda.so"], ["cpu", "cuda"]),
        (["libggml-metal.dylib", "libggml-blas.dylib"], ["blas", "metal"]),
        (["ggml-vulkan.dll", "libllama.so"], ["vulkan"]),
        ([], []),
    ],
)
def test_backends(tmp_path: Path, files: list[str], backends: list[str]) -> None:
    for name in files:
        write(tmp_path, name)
    assert list(read_backends([tmp_path])) == backends


def test_the_installed_build_is_the_required_one() -> None:
    build = read_build()
    assert build.version == build.required
    assert "cpu" in build.backends


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = read_folder(tmp_path / "not" / "yet")
    assert found.is_writable
    assert found.read_bytes_per_s is None
    assert found.free_bytes > 0
    write(tmp_path, "file")
    assert not read_folder(tmp_path / "file" / "below").is_writable


def test_the_largest_blob_is_read(tmp_path: Path) -> None:
    write(tmp_path, "blobs/sha256-a", "x")
    (tmp_path / "blobs/sha256-b").write_bytes(os.urandom(1 << 20))
    found = read_folder(tmp_path)
    assert found.read_bytes_per_s is not None
    assert found.read_bytes_per_s > 1e6
