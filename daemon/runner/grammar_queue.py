"""Which sequences wait until the grammar of their schema is compiled?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from ..errors import InvalidFormat
from .sampling.grammar import Grammar, GrammarCompiler
from .sequence import Sequence

# Seconds from the request to its grammar, with the wait for a compiling thread. 4,000 optional
# properties take 1 s on an idle core (measured).
COMPILE_TIMEOUT_S = 10.0
TOO_SLOW = (
    "invalid format: the schema takes more than {:g} s to compile; simplify it "
    "(fewer properties, fewer alternatives, shorter patterns)"
)


class GrammarQueue:
    """Submits each sequence with its grammar; no other request waits for a large schema."""

    def __init__(
        self,
        compiler: GrammarCompiler,
        submit: Callable[[Sequence], None],
        fail: Callable[[int, BaseException], None],
        timeout_s: float = COMPILE_TIMEOUT_S,
    ) -> None:
        """`submit` and `fail` are called from any thread, one of them once for each sequence that
        is not cancelled."""
        self._compiler = compiler
        self._submit = submit
        self._fail = fail
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._waiting: dict[int, threading.Timer] = {}  # by request

    def add(self, sequence: Sequence, schema: str) -> None:
        """Compile the schema, then submit the sequence; to be called from one thread."""
        compiling = self._compiler.start(schema)
        fault = InvalidFormat(TOO_SLOW.format(self._timeout_s))
        timer = threading.Timer(self._timeout_s, self._end, (sequence.id, fault))
        timer.daemon = True
        with self._lock:
            self._waiting[sequence.id] = timer
        if not compiling.done():
            timer.start()
        compiling.add_done_callback(lambda done: self._finish(sequence, done))

    def cancel(self, request_id: int) -> bool:
        """Forget a sequence; False if it does not wait here (any more)."""
        with self._lock:
            timer = self._waiting.pop(request_id, None)
        if timer:
            timer.cancel()
        return timer is not None

    def _finish(self, sequence: Sequence, done: Future[Grammar]) -> None:
        try:
            sequence.grammar = done.result().copy()
        except BaseException as fault:
            self._end(sequence.id, fault)
            return
        with self._lock:  # a cancel finds the sequence here or where it is submitted to
            if self.cancel(sequence.id):
                self._submit(sequence)

    def _end(self, request_id: int, fault: BaseException) -> None:
        if self.cancel(request_id):
            self._fail(request_id, fault)
