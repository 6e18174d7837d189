"""Which threads are bound to which cores, while fewer or all of them decode."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest
from outrider.daemon.runner.threads.binding import ThreadBinding

CPUS = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset[int]()

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(len(CPUS) < 2, reason="needs Linux and two cores"),
]


@pytest.fixture
def other() -> Iterator[int]:
    """The id of a second thread; OpenMP has given each thread a core of its own."""
    first, second, *_ = sorted(CPUS)
    ended, ids = threading.Event(), list[int]()
    started = threading.Event()

    def wait() -> None:
        ids.append(threading.get_native_id())
        started.set()
        ended.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    os.sched_setaffinity(0, {first})
    os.sched_setaffinity(ids[0], {second})
    yield ids[0]
    os.sched_setaffinity(0, CPUS)
    ended.set()
    thread.join()


def cores(thread: int) -> set[int]:
    return os.sched_getaffinity(thread)


def test_every_decoding_thread_gets_its_core_back(other: int) -> None:
    own, others = cores(0), cores(other)
    binding = ThreadBinding(CPUS)
    for _ in range(2):
        binding.free_all()
        assert cores(0) == cores(other) == CPUS
        binding.bind_decoding()
        assert (cores(0), cores(other)) == (own, others)


def test_a_thread_that_has_only_inherited_a_core_stays_free(other: int) -> None:
    os.sched_setaffinity(other, cores(0))
    binding = ThreadBinding(CPUS)
    binding.free_all()
    binding.bind_decoding()
    assert cores(other) == CPUS


def test_without_binding_nothing_changes(other: int) -> None:
    os.sched_setaffinity(0, CPUS)
    before = cores(other)
    binding = ThreadBinding(CPUS)
    binding.free_all()
    binding.bind_decoding()
    assert cores(other) == before
