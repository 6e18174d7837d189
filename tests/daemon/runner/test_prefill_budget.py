"""Pace: from what steps cost it learns how many prompt rows make streams stutter no more than told.

The steps are synthetic: a base per number of streams, a price per prompt row, and noise.
"""

from __future__ import annotations

import random

import pytest
from outrider.daemon.runner.prefill_budget import MAX_ROWS, MIN_ROWS, SIZES, STRETCH, PrefillBudget

pytestmark = pytest.mark.unit

MACHINES = {
    "laptop": (0.030, 0.0021),
    "server": (0.010, 0.0002),
    "small model": (0.002, 0.00005),
    "slow prompts": (0.020, 0.004),
}


def train(
    pace: PrefillBudget, base_s: float, row_s: float, *, streams: int = 2, seed: int = 1
) -> None:
    """A hundred steps as the engine does them: with as many prompt rows as it was told, or none."""
    rng = random.Random(seed)
    for step in range(100):
        rows = pace.prompt_rows(streams) if step % 3 else 0
        took_s = (base_s + rows * row_s) * rng.uniform(0.95, 1.05)
        pace.observe(streams=streams, prompt_rows=rows, took_s=took_s)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("seed", range(5))
def test_a_step_comes_to_last_as_long_as_it_may(machine: str, seed: int) -> None:
    base_s, row_s = MACHINES[machine]
    pace = PrefillBudget()
    train(pace, base_s, row_s, seed=seed)
    rows = pace.prompt_rows(2)
    ideal = (STRETCH - 1) * base_s / row_s
    assert ideal / 2 * 0.7 < rows < ideal * 1.3, "it is rounded down to one of few sizes"


def test_it_follows_when_the_machine_becomes_slower() -> None:
    pace = PrefillBudget()
    train(pace, 0.010, 0.0001)
    fast = pace.prompt_rows(2)
    train(pace, 0.010, 0.001)
    assert (fast, pace.prompt_rows(2)) == (128, 12)


def test_without_streams_a_prompt_gets_all_rows() -> None:
    pace = PrefillBudget()
    assert pace.prompt_rows(0) == MAX_ROWS
    train(pace, 0.010, 0.001)
    assert pace.prompt_rows(0) == MAX_ROWS


def test_a_new_pace_is_careful() -> None:
    pace = PrefillBudget()
    assert MIN_ROWS < pace.prompt_rows(1) < MAX_ROWS
    pace.observe(streams=1, prompt_rows=0, took_s=0.01)
    assert MIN_ROWS < pace.prompt_rows(1) < MAX_ROWS, "the price of a row is not known yet"


def test_a_prompt_alone_teaches_nothing() -> None:
    pace, untouched = PrefillBudget(), PrefillBudget()
    for observed in (pace, untouched):
        train(observed, 0.010, 0.001)
    for _ in range(100):
        pace.observe(streams=0, prompt_rows=256, took_s=9.0)
    assert [pace.prompt_rows(n) for n in range(1, 9)] == [
        untouched.prompt_rows(n) for n in range(1, 9)
    ]


def test_an_unknown_number_of_streams_takes_the_nearest() -> None:
    pace = PrefillBudget()
    train(pace, 0.010, 0.001, streams=2)
    train(pace, 0.040, 0.001, streams=8)
    assert pace.prompt_rows(1) == pace.prompt_rows(2) < pace.prompt_rows(8) == pace.prompt_rows(30)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_measured_the_rows_are_of_few_sizes(seed: int) -> None:
    rng = random.Random(seed)
    pace = PrefillBudget()
    for _ in range(200):
        pace.observe(
            streams=rng.randint(0, 8),
            prompt_rows=rng.choice((0, rng.randint(1, 512))),
            took_s=rng.choice((0.0, 1e-9, 1e3, rng.random())),
        )
        for streams in range(1, 9):
            rows = pace.prompt_rows(streams)
            assert MIN_ROWS <= rows <= MAX_ROWS
            assert rows in SIZES
