"""Calls on a stack of their own: their results, their faults, and the threads after them."""

from __future__ import annotations

import threading

import pytest
from outrider.daemon.runner.llama.call_stack import call_with_stack

pytestmark = pytest.mark.unit

MIB = 1 << 20


def test_the_result_comes_from_a_thread_with_that_stack() -> None:
    before = threading.stack_size()
    name = call_with_stack(64 * MIB, lambda: threading.current_thread().name.partition("_")[0])
    assert name == "deep-stack"
    assert threading.stack_size() == before


@pytest.mark.parametrize("fault", [ValueError, BaseException])
def test_a_fault_reaches_the_caller(fault: type[BaseException]) -> None:
    def fail() -> None:
        raise fault("here")

    with pytest.raises(fault, match="here"):
        call_with_stack(MIB, fail)


def test_a_stack_that_cannot_be_reserved_is_one_error() -> None:
    before = threading.stack_size()
    with pytest.raises(MemoryError, match="no stack"):
        call_with_stack(1 << 50, lambda: None)
    assert threading.stack_size() == before
