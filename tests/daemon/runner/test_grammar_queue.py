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
from outrider.daemon.runner.sampling.grammar import Grammar, GrammarCompiler
from outrider.daemon.runner.sequence import Sequence

pytestmark = pytest.mark.unit

HOUR_S = 3600.0


class FakeSchema:
    """A compiled schema; each answer gets a grammar of its own."""

    def copy(self) -> Grammar:
        return cast(Grammar, object())


class BrokenSchema:
    """A compiled schema that cannot be copied."""

    def copy(self) -> Grammar:
        raise SystemError("no copy")


class FakeCompiler:
    """Compiles when the test says so."""

    def __init__(self) -> None:
        self.started: dict[str, Future[Any]] = {}

    def start(self, schema: str) -> Future[Any]:
        return self.started.setdefault(schema, Future())


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


def sequence(request_id: int) -> Sequence:
    return Sequence(request_id, array("i", [1]), Sampling(), Limits(), num_ctx=8)


def test_a_small_schema_passes_a_large_one() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), "large")
    bench.queue.add(sequence(2), "small")
    bench.compiler.started["small"].set_result(FakeSchema())
    assert bench.ids == [2]
    bench.compiler.started["large"].set_result(FakeSchema())
    assert bench.ids == [2, 1]
    assert len({id(each.grammar) for each in bench.submitted}) == 2
    assert not bench.failed


def test_requests_with_one_schema_keep_their_order() -> None:
    bench = Bench()
    for request_id in (1, 2, 3):
        bench.queue.add(sequence(request_id), "same")
    bench.compiler.started["same"].set_result(FakeSchema())
    bench.queue.add(sequence(4), "same")
    assert bench.ids == [1, 2, 3, 4]


@pytest.mark.parametrize("fault", [InvalidFormat("no"), BaseException("a panic")])
def test_a_schema_that_cannot_be_compiled_fails_its_request(fault: BaseException) -> None:
    bench = Bench()
    bench.queue.add(sequence(1), "bad")
    bench.compiler.started["bad"].set_exception(fault)
    assert bench.failed == {1: fault}
    assert not bench.submitted
    assert not bench.queue.cancel(1), "nothing is left behind"


def test_a_grammar_that_cannot_be_copied_fails_its_request() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), "good")
    bench.compiler.started["good"].set_result(BrokenSchema())
    assert isinstance(bench.failed[1], SystemError)
    assert not bench.submitted


def test_a_cancelled_request_is_forgotten() -> None:
    bench = Bench()
    bench.queue.add(sequence(1), "slow")
    assert bench.queue.cancel(1)
    assert not bench.queue.cancel(1)
    bench.compiler.started["slow"].set_result(FakeSchema())
    assert not bench.submitted
    assert not bench.failed


def test_a_compilation_without_end_fails_its_request_once() -> None:
    bench = Bench(timeout_s=0.001)
    bench.queue.add(sequence(1), "endless")
    assert bench.has_failed.wait(10)
    assert isinstance(bench.failed[1], InvalidFormat)
    assert "simplify it" in str(bench.failed[1])
    bench.compiler.started["endless"].set_result(FakeSchema())
    assert not bench.submitted
