"""The memory of a process stays the same: few arenas, large blocks apart, free memory returned."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from outrider.daemon.heap import MemoryReturn

pytestmark = pytest.mark.unit

GLIBC = pytest.mark.skipif(sys.platform != "linux", reason="a C library without these functions")

# Each says how many arenas the threads of a new process have taken.
COUNT_ARENAS = """
import ctypes, threading
from outrider.daemon.heap import share_arenas
{prepare}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def allocate():
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""

# A heap whose large block is freed below a small one: does the block stay resident?
FREE_LARGE_BLOCK = """
import ctypes, os
from outrider.daemon.heap import keep_large_blocks_apart
{prepare}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 8 << 20
libc.free(libc.malloc(size + 4096))  # raises glibc's threshold, unless that is fixed
def resident_bytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident_bytes()
block = libc.malloc(size)
ctypes.memset(block, 1, size)
above = libc.malloc(4096)
libc.free(block)
print(resident_bytes() - before)
"""


def run(script: str, prepare: str) -> str:
    command = [sys.executable, "-c", script.format(prepare=prepare)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@GLIBC
def test_threads_share_two_arenas() -> None:
    assert run(COUNT_ARENAS, "").count("<heap nr=") > 2
    assert run(COUNT_ARENAS, "share_arenas()").count("<heap nr=") <= 2


@GLIBC
def test_a_large_block_returns_to_the_system_when_it_is_freed() -> None:
    assert int(run(FREE_LARGE_BLOCK, "")) > 7 << 20
    assert int(run(FREE_LARGE_BLOCK, "keep_large_blocks_apart()")) < 1 << 20


class Trim:
    """Stands for malloc_trim(3)."""

    def __init__(self) -> None:
        self.called = threading.Semaphore(0)

    def __call__(self, padding: int) -> int:
        assert padding == 0
        self.called.release()
        return 1


@pytest.fixture
def trim() -> Trim:
    return Trim()


def test_free_memory_returns_after_work_and_not_without(trim: Trim) -> None:
    memory = MemoryReturn(trim, interval_s=0.01)
    memory.start()
    assert not trim.called.acquire(timeout=0.05)
    memory.note()
    assert trim.called.acquire(timeout=5)
    assert not trim.called.acquire(timeout=0.05)
    memory.note()
    assert trim.called.acquire(timeout=5)


def test_much_work_is_followed_by_few_returns(trim: Trim) -> None:
    memory = MemoryReturn(trim, interval_s=0.2)
    memory.start()
    for _ in range(100):
        memory.note()
    assert trim.called.acquire(timeout=5)
    assert not trim.called.acquire(timeout=0.3)
