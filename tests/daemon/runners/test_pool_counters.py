"""What becomes of the figures of models and runners that are gone?"""

from __future__ import annotations

import pytest
from outrider.daemon.protocol import DrafterStats, Stats
from outrider.daemon.runners.pool_counters import MAX_MODELS, PoolCounters
from outrider.daemon.runners.stats_sum import add_stats

pytestmark = pytest.mark.unit


def test_of_many_models_the_newest_are_kept() -> None:
    counters = PoolCounters()
    counters.loaded("old", 1.0)
    counters.loaded("used again", 1.0)
    for i in range(MAX_MODELS):
        counters.loaded(f"m{i}", 1.0)
        counters.loaded("used again", 1.0)
        counters.keep(f"m{i}", Stats(steps=1))
        counters.evicted(f"m{i}", is_busy=False)
    assert len(counters.loads) == len(counters.load_s) == MAX_MODELS
    assert "old" not in counters.loads
    assert counters.loads["used again"] == 1 + MAX_MODELS
    assert len(counters.past) == len(counters.evictions) == MAX_MODELS


def test_a_counter_that_was_never_raised_is_not_remembered() -> None:
    counters = PoolCounters()
    counters.loaded("m", 2.0)
    assert counters.loads["other"] == 0
    assert dict(counters.loads) == {"m": 1}


def test_the_last_levels_of_a_runner_are_not_kept() -> None:
    counters = PoolCounters()
    counters.keep("m", Stats(steps=3, slots_busy=2, waiting=1, cells_used=7))
    counters.keep("m", Stats(steps=4))
    assert counters.past["m"] == Stats(steps=7)


def test_histograms_and_drafters_are_added_by_their_parts() -> None:
    first = Stats(gap_counts=(1, 2), gap_ns=10, drafters=(DrafterStats("a", 1, 2, 1, 10, 20),))
    both = (DrafterStats("b", 1, 1, 1, 1, 1), DrafterStats("a", 1, 3, 2, 5, 6))
    total = add_stats(first, Stats(gap_counts=(0, 5), gap_ns=7, drafters=both))
    assert (total.gap_counts, total.gap_ns) == ((1, 7), 17)
    assert total.drafters == (
        DrafterStats("a", 2, 5, 3, 15, 26),
        DrafterStats("b", 1, 1, 1, 1, 1),
    )
    assert add_stats(None, first) == first
