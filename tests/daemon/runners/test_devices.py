"""The machine as it is now: free memory of the host and of GPUs that a probe has printed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from outrider.daemon.runners.cgroup import read_memory_left
from outrider.daemon.runners.devices import MachineReader, limit_memory, parse_gpus, probe_gpus
from outrider.daemon.runners.machine import Gpu, Machine, read_available

pytestmark = pytest.mark.unit

GPU = Gpu("CUDA0", "NVIDIA made up", 1000, 800)
MACHINE = Machine("linux", "made up", 2, 500, 300, (GPU, Gpu("Vulkan1", "", 9, 4, True)))


class Probe:
    """Answers in turn; the last one again and again."""

    def __init__(self, *answers: tuple[Gpu, ...]) -> None:
        self.answers, self.count = answers, 0

    async def __call__(self) -> tuple[Gpu, ...]:
        self.count += 1
        return self.answers[min(self.count, len(self.answers)) - 1]


def test_the_answer_of_the_probe_is_read() -> None:
    row = {"name": "CUDA0", "description": "NVIDIA made up", "total_bytes": 1000}
    row |= {"free_bytes": 800, "is_integrated": False}
    text = json.dumps({"bindings": "0", "gpus": [row], "devices": []}).encode()
    assert parse_gpus(text) == (GPU,)
    with pytest.raises(msgspec.DecodeError):
        parse_gpus(b"")


async def test_a_probe_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert await probe_gpus("outrider.daemon.no_such_module") == ()
    assert "No module named" in caplog.text


async def test_without_gpus_the_probe_is_asked_once() -> None:
    probe = Probe(())
    reader = await MachineReader.start(probe)
    for _ in range(3):
        machine = await reader.read()
    assert (probe.count, machine.gpus) == (1, ())
    assert machine.available_bytes == pytest.approx(read_available(), rel=0.5)


async def test_gpus_are_read_anew_and_keep_their_figures_if_they_cannot_be() -> None:
    later = Gpu("CUDA0", "NVIDIA made up", 1000, 200)
    probe = Probe((GPU,), (later,), ())
    reader = await MachineReader.start(probe)
    assert (await reader.read()).gpus == (GPU,)
    assert probe.count == 1, "a fresh answer serves the first load"
    assert [(await reader.read()).gpus for _ in range(2)] == [(later,), (later,)]
    assert probe.count == 3


async def test_a_probe_that_hangs_ends_with_the_reader() -> None:
    ended = asyncio.Event()

    async def hang() -> tuple[Gpu, ...]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ()

    reader = await MachineReader.start(hang)
    await asyncio.sleep(0)
    await reader.close()
    assert ended.is_set()


def test_a_limit_shrinks_the_memory() -> None:
    assert limit_memory(MACHINE, 0) is MACHINE
    assert limit_memory(MACHINE, 90).memory_bytes == 100
    assert limit_memory(MACHINE, 10**6).memory_bytes == 500


def test_freed_memory_is_free_again_and_no_more_than_there_is() -> None:
    freed = MACHINE.after_freeing({"CPU": 50, "CUDA0": 100, "CUDA9": 7})
    assert (freed.free_bytes, freed.gpus[0].free_bytes) == (350, 900)
    assert MACHINE.after_freeing({"CPU": -400, "CUDA0": 900}).free_bytes == -100
    assert MACHINE.after_freeing({"CUDA0": 900}).gpus[0].free_bytes == 1000
    assert MACHINE.after_freeing({"Vulkan1": 3}).free_bytes == 303, "it is the host's memory"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_control_group_leaves_what_its_limit_does(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/a/b"
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        f"{group}/memory.max": "1000",
        f"{group}/memory.current": "700",
        f"{group}/memory.stat": "anon 400\ninactive_file 200\n",
        "sys/fs/cgroup/a/memory.max": "600",
        "sys/fs/cgroup/a/memory.current": "550",
        "sys/fs/cgroup/memory.max": "max",
    }
    assert read_memory_left(write(tmp_path, files)) == 50


def test_the_same_in_version_1(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/a"
    files = {
        "proc/self/cgroup": "4:memory:/a\n0::/\n",
        f"{group}/memory.limit_in_bytes": "1000",
        f"{group}/memory.usage_in_bytes": "900",
        f"{group}/memory.stat": "inactive_file 1\ntotal_inactive_file 250\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str((1 << 63) - 4096),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000",
    }
    assert read_memory_left(write(tmp_path, files)) == 350
    assert read_memory_left(tmp_path / "nowhere") is None
