"""Which requests are being prepared, beside the thread that reads the socket?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..protocol import Submit

# Requests that are prepared at the same time: a long prompt, or a template that hangs, leaves
# threads to the others.
PREPARING_THREADS = 4
# Seconds that a prepared request waits for an earlier one, so that requests reach the engine in the
# order in which they came.
PATIENCE_S = 0.1


class PreparationQueue:
    """Prepares requests, some at a time; they are handed on in the order in which they came, unless
    an earlier one takes long."""

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
        self._changed = threading.Condition(threading.RLock())
        self._waiting: dict[int, None] = {}  # ids, the earliest first

    def add(self, request: Submit) -> None:
        """Queue a request."""
        with self._changed:
            self._waiting[request.id] = None
        self._threads.submit(self._run, request)

    def cancel(self, request_id: int) -> bool:
        """Forget a request; False if it does not wait here (any more)."""
        with self._changed:
            was_waiting = request_id in self._waiting
            self._waiting.pop(request_id, None)
            self._changed.notify_all()
        return was_waiting

    def _run(self, request: Submit) -> None:
        try:
            if request.id not in self._waiting:
                return
            hand_on = self._prepare(request)
            with self._changed:  # a cancel finds the request here or where it is handed on to
                self._changed.wait_for(lambda: self._is_next(request.id), PATIENCE_S)
                if self.cancel(request.id):
                    hand_on()
        except BaseException as fault:
            if self.cancel(request.id):
                self._fail(request.id, fault)

    def _is_next(self, request_id: int) -> bool:
        """Whether no earlier request is being prepared; also true for a cancelled one."""
        return request_id not in self._waiting or next(iter(self._waiting)) == request_id
