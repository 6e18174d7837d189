"""Outputs that repeat themselves, and outputs that only look like it."""

from __future__ import annotations

import random

import pytest
from outrider.daemon.chat.conversation import ToolCall
from outrider.daemon.runner.repetition import (
    MAX_SAME_CALLS,
    MIN_REPEATS,
    MIN_TOKENS,
    CallCounter,
    is_endless,
)

pytestmark = pytest.mark.unit


def text(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(1000), k=length)


@pytest.mark.parametrize("period", [1, 2, 7, 31, 32, 33, 100, 256])
def test_a_run_that_is_repeated_again_and_again_is_endless(period: int) -> None:
    needed = max(MIN_TOKENS, MIN_REPEATS * period)
    repeated = (text(period) * (needed // period + 2))[:needed]
    assert is_endless(text(50, 1) + repeated)
    assert not is_endless(text(50, 1) + repeated[: needed - period - 1])
    assert not is_endless([*repeated[:-1], 1001])
    assert not is_endless([*repeated, 1001])


def test_other_texts_are_not() -> None:
    assert not is_endless([])
    assert not is_endless(text(5000))
    rows = [token for row in range(200) for token in (*text(10), 1000 + row)]
    assert not is_endless(rows)


def test_the_same_call_in_a_row_is_endless() -> None:
    calls = CallCounter()
    for number in range(50):
        calls.add((ToolCall("f", {"page": number}),))
        assert not calls.is_endless
    for _ in range(MAX_SAME_CALLS - 1):
        calls.add((ToolCall("f", {"page": 49}, id="other"),))
        assert not calls.is_endless
    calls.add((ToolCall("f", {"page": 49}),))
    assert calls.is_endless
