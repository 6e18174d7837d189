"""Which requests are being prepared, beside the thread that reads the socket?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..protocol import Submit

# Requests that are prepared at the same time: a long prompt, or a template that hangs, leaves
# threads to the others.
PREPARING_THREADS = 4


class PreparationQueue:
    """Prepares requests in the order in which they arrive, some at a time."""

    def __init__(
        self,
        prepare: Callable[[Submit], Callable[[], None]],
        fail: Callable[[int, BaseException], None],
    ) -> None:
        """`prepare` does the work and returns what hands its result on; that is called unless the
        request was cancelled meanwhile. `fail` is called with whatever one of them raises."""
        self._prepare = prepare
        self._fail = fail
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, "prepare")
        self._lock = threading.RLock()
        self._waiting: set[int] = set()  # ids

    def add(self, request: Submit) -> None:
        """Queue a request."""
        with self._lock:
            self._waiting.add(request.id)
        self._threads.submit(self._run, request)

    def cancel(self, request_id: int) -> bool:
        """Forget a request; False if it does not wait here (any more)."""
        with self._lock:
            was_waiting = request_id in self._waiting
            self._waiting.discard(request_id)
        return was_waiting

    def _run(self, request: Submit) -> None:
        try:
            if request.id not in self._waiting:
                return
            hand_on = self._prepare(request)
            with self._lock:  # a cancel finds the request here or where it is handed on to
                if self.cancel(request.id):
                    hand_on()
        except BaseException as fault:
            if self.cancel(request.id):
                self._fail(request.id, fault)
