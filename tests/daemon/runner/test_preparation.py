"""Requests that are prepared beside the thread that reads the socket."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest
from harness import text_request
from outrider.daemon.errors import BadRequest
from outrider.daemon.protocol import Submit
from outrider.daemon.runner.preparation import PREPARING_THREADS, PreparationQueue

pytestmark = pytest.mark.unit

TIMEOUT_S = 20.0


class Bench:
    """A queue whose requests named "slow" wait until `go`; what came out is in `out`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)
        self.out: queue.Queue[tuple[int, BaseException | None]] = queue.Queue()
        self.queue = PreparationQueue(self._prepare, lambda id_, fault: self.out.put((id_, fault)))

    def add(self, id_: int, text: str = "x") -> None:
        self.queue.add(text_request(id_, text))

    def next(self) -> tuple[int, BaseException | None]:
        return self.out.get(timeout=TIMEOUT_S)

    def _prepare(self, request: Submit) -> Callable[[], None]:
        text = request.prompt.text  # type: ignore[union-attr]
        self.entered.release()
        if text == "slow":
            assert self.go.wait(TIMEOUT_S)
        if text == "bad":
            raise BadRequest("bad")
        return lambda: self.out.put((request.id, None))


def test_a_slow_request_leaves_a_thread_to_the_others() -> None:
    bench = Bench()
    bench.add(1, "slow")
    for number in range(2, 9):
        bench.add(number)
    assert sorted(bench.next()[0] for _ in range(7)) == list(range(2, 9))
    bench.go.set()
    assert bench.next() == (1, None)


def test_a_fault_is_that_of_its_request() -> None:
    bench = Bench()
    bench.add(1, "bad")
    id_, fault = bench.next()
    assert (id_, str(fault)) == (1, "bad")
    bench.add(2)
    assert bench.next() == (2, None)


def test_a_cancelled_request_is_never_handed_on() -> None:
    bench = Bench()
    for number in range(1, PREPARING_THREADS + 2):
        bench.add(number, "slow")
    for _ in range(PREPARING_THREADS):
        assert bench.entered.acquire(timeout=TIMEOUT_S)
    assert bench.queue.cancel(1)  # one that is being prepared
    assert bench.queue.cancel(PREPARING_THREADS + 1)  # and one that waits
    assert not bench.queue.cancel(1)
    bench.go.set()
    handed_on = sorted(bench.next()[0] for _ in range(2, PREPARING_THREADS + 1))
    assert handed_on == list(range(2, PREPARING_THREADS + 1))
    bench.add(9)
    assert bench.next() == (9, None)
    assert not bench.queue.cancel(9)


def test_quick_requests_stay_in_order() -> None:
    bench = Bench()
    for number in range(200):
        bench.add(number)
    assert [bench.next()[0] for _ in range(200)] == list(range(200))
