"""Which sequences wait until their grammars are compiled?"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import InvalidSchema
from .sampling.constraint import Constraint, ConstraintSource
from .sampling.grammar_compiler import GrammarCompiler
from .sequence import Sequence

# Seconds from the request to its grammars, with the wait for a compiling thread. 4,000 optional
# properties take 2 s on an idle core (measured).
COMPILE_TIMEOUT_S = 10.0
TOO_SLOW = (
    "invalid format: the schema takes more than {:g} s to compile; simplify it "
    "(fewer properties, fewer alternatives, shorter patterns)"
)


class CompilingConstraint:
    """The grammars of one request, which become ready in any order."""

    def __init__(self, source: ConstraintSource, compiler: GrammarCompiler) -> None:
        self._source = source
        self.futures = [compiler.start(grammar) for grammar in source.grammars]

    @property
    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def make(self) -> Constraint:
        """The constraint of one answer. Raises the fault of the first grammar that has one."""
        answer, *others = (future.result() for future in self.futures)
        places = (place for place, _ in self._source.openings)
        openings = dict(zip(places, others, strict=True))
        source = self._source
        return Constraint(answer, openings, source.forces_calls, source.borders, source.blanks)


class GrammarQueue:
    """Submits each sequence with its constraint; no other request waits for a large schema."""

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

    def add(self, sequence: Sequence, source: ConstraintSource) -> None:
        """Compile the constraint, then submit the sequence; to be called from one thread."""
        compiling = CompilingConstraint(source, self._compiler)
        fault = InvalidSchema(TOO_SLOW.format(self._timeout_s))
        timer = threading.Timer(self._timeout_s, self._end, (sequence.id, fault))
        timer.daemon = True
        with self._lock:
            self._waiting[sequence.id] = timer
        if not compiling.is_done:
            timer.start()
        for future in compiling.futures:
            future.add_done_callback(lambda _done: self._finish(sequence, compiling))

    def cancel(self, request_id: int) -> bool:
        """Forget a sequence; False if it does not wait here (any more)."""
        with self._lock:
            timer = self._waiting.pop(request_id, None)
        if timer:
            timer.cancel()
        return timer is not None

    def _finish(self, sequence: Sequence, compiling: CompilingConstraint) -> None:
        if not compiling.is_done:
            return
        with self._lock:  # a cancel finds the sequence here or where it is submitted to
            if not self.cancel(sequence.id):
                return
            try:
                sequence.constraint = compiling.make()
            except BaseException as fault:
                self._fail(sequence.id, fault)
            else:
                self._submit(sequence)

    def _end(self, request_id: int, fault: BaseException) -> None:
        if self.cancel(request_id):
            self._fail(request_id, fault)
