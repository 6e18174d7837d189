"""The time per token, as a histogram."""

from __future__ import annotations

import pytest
from outrider.daemon.protocol import TOKEN_GAP_BOUNDS_S
from outrider.daemon.runner.token_gaps import TokenGaps

pytestmark = pytest.mark.unit

MS = 1_000_000  # nanoseconds


def test_tokens_of_one_step_share_its_time() -> None:
    gaps = TokenGaps()
    gaps.add(1, 1, 0)  # the first token ends the prompt
    gaps.add(1, 4, 60 * MS)
    gaps.add(1, 1, 70 * MS)
    found = {
        bound: count for bound, count in zip(TOKEN_GAP_BOUNDS_S, gaps.counts, strict=False) if count
    }
    assert found == {0.02: 4, 0.01: 1}
    assert gaps.total_ns == 70 * MS


def test_streams_are_apart_and_an_id_can_come_again() -> None:
    gaps = TokenGaps()
    gaps.add(1, 1, 0)
    gaps.add(2, 1, 50 * MS)
    gaps.add(1, 1, 100 * MS)
    gaps.forget(1)
    gaps.forget(3)
    gaps.add(1, 1, 900 * MS)
    assert (sum(gaps.counts), gaps.total_ns) == (1, 100 * MS)


def test_what_is_beyond_every_bound_counts_too() -> None:
    gaps = TokenGaps()
    gaps.add(1, 1, 0)
    gaps.add(1, 1, 10**12)
    assert gaps.counts[-1] == 1
