"""Who waits for a grammar: a sequence passes on with it, or fails alone, or is forgotten."""

from __future__ import annotations

import threading
from array import array
from concurrent.futures import Future
from typing import Any, cast

import pytest
from outrider.daemon.errors import InvalidFormat
from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.grammar_queue import GrammarQueue
from outrider.daemon.runner.sampling.constraint import ConstraintSource, Place
from outrider.daemon.runner.sampling.grammar import Grammar
from outrider.daemon.runner.sampling.grammar_compiler import GrammarCompiler
from outrider.daemon.runner.sampling.grammar_source import GrammarSource, SchemaSource
from outrider.daemon.runner.sequence import Sequence

pytestmark = pytest.mark.unit

HOUR_S = 3600.0


class FakeCompiler:
    """Compiles when the test says so."""

    def __init__(self) -> None:
        self.started: dict[str, Future[Any]] = {}

    def start(self, source: GrammarSource) -> Future[Any]:
        assert isinstance(source, SchemaSource)
        return self.started.setdefault(source.text, Future())


class Bench:
    """A queue and what it passed on."""

    def __init__(self, timeout_s: float = HOUR_S) -> None:
        self.compiler = FakeCompiler()
        self.submitted: list[Sequence] = []
        self.failed: dict[int, BaseException] = {}
        self.has_failed = threading.Event()
        compiler = cast(GrammarCompiler, self.compiler)
        self.queue = GrammarQueue(compiler, self.submitted.append, self._fail, timeout_s)

    def _fail(self, request_id: int, fault: BaseException) -> None:
        self.failed[request_id] = fault
        self.has_failed.set()

    @property
    def ids(self) -> list[int]:
        return [sequence.id for sequence in self.submitted]


def follow(answer: str, opening: str = "") -> ConstraintSource:
    """A constraint of an answer, and of what may stand in its place at the start."""
    openings = ((Place.START, SchemaSource(opening)),) if opening else ()
    return ConstraintSource(SchemaSource(answer), openings)


GRAMMAR = cast(Grammar, object())


def sequence(request_id: int) -> Sequence:
    return Sequence(request_id, array("i", [1]), Sampling(), Limits(), num_ctx=8)


def test_a_small_schema_passes_a_large_one() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), follow("large"))
    bench.queue.add(sequence(2), follow("small"))
    bench.compiler.started["small"].set_result(GRAMMAR)
    assert bench.ids == [2]
    bench.compiler.started["large"].set_result(GRAMMAR)
    assert bench.ids == [2, 1]
    assert len({id(each.constraint) for each in bench.submitted}) == 2
    assert not bench.failed


def test_requests_with_one_schema_keep_their_order() -> None:
    bench = Bench()
    for request_id in (1, 2, 3):
        bench.queue.add(sequence(request_id), follow("same"))
    bench.compiler.started["same"].set_result(GRAMMAR)
    bench.queue.add(sequence(4), follow("same"))
    assert bench.ids == [1, 2, 3, 4]


@pytest.mark.parametrize("fault", [InvalidFormat("no"), BaseException("a panic")])
def test_a_schema_that_cannot_be_compiled_fails_its_request(fault: BaseException) -> None:
    bench = Bench()
    bench.queue.add(sequence(1), follow("bad"))
    bench.compiler.started["bad"].set_exception(fault)
    assert bench.failed == {1: fault}
    assert not bench.submitted
    assert not bench.queue.cancel(1), "nothing is left behind"


def test_a_request_waits_for_all_of_its_grammars() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), follow("answer", "opening"))
    bench.compiler.started["answer"].set_result(GRAMMAR)
    assert not bench.submitted
    bench.compiler.started["opening"].set_result(GRAMMAR)
    assert bench.ids == [1]
    constraint = bench.submitted[0].constraint
    assert constraint
    assert constraint.openings.keys() == {Place.START}


def test_one_bad_grammar_of_two_fails_the_request_once() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), follow("answer", "opening"))
    bench.compiler.started["opening"].set_exception(InvalidFormat("no"))
    bench.compiler.started["answer"].set_result(GRAMMAR)
    assert bench.failed.keys() == {1}
    assert not bench.submitted


def test_a_cancelled_request_is_forgotten() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), follow("slow"))
    assert bench.queue.cancel(1)
    assert not bench.queue.cancel(1)
    bench.compiler.started["slow"].set_result(GRAMMAR)
    assert not bench.submitted
    assert not bench.failed


def test_a_compilation_without_end_fails_its_request_once() -> None:
    bench = Bench(timeout_s=0.001)
    bench.queue.add(sequence(1), follow("endless"))
    assert bench.has_failed.wait(10)
    assert isinstance(bench.failed[1], InvalidFormat)
    assert "simplify it" in str(bench.failed[1])
    bench.compiler.started["endless"].set_result(GRAMMAR)
    assert not bench.submitted
