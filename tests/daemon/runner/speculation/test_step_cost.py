"""What a decode costs by its rows: learnt from noisy calls, on a machine that changes its speed."""

from __future__ import annotations

import math
import random

import pytest
from lab import known
from outrider.daemon.runner.speculation.step_cost import StepCost, TokenCost

pytestmark = pytest.mark.unit


def measured(costs: dict[int, float]) -> StepCost:
    curve = StepCost()
    for rows, took_s in costs.items():
        curve.observe(rows, took_s)
    return curve


def test_between_what_was_seen_lies_a_line() -> None:
    curve = known({1: 1.0, 4: 1.6, 8: 4.0})
    assert [curve.seconds(rows) for rows in (1, 2, 4, 6, 8)] == pytest.approx([1, 1.2, 1.6, 2.8, 4])
    assert curve.seconds(10) == pytest.approx(5.2)  # on through the last two
    assert curve.table(3) == pytest.approx([0, 1, 1.2, 1.4])


def test_one_measurement_says_something_of_all() -> None:
    assert measured({2: 1.0}).seconds(4) == pytest.approx(2.0)


def test_more_rows_never_cost_less() -> None:
    """Two counts that contradict each other meet between."""
    curve = measured({1: 1.0, 2: 2.0, 3: 1.5, 8: 3.0})
    assert curve.seconds(2) == curve.seconds(3)
    assert 1.5 < curve.seconds(3) < 2.0
    costs = curve.table(12)
    assert costs == sorted(costs)


def test_a_new_count_is_judged_by_its_neighbours_first() -> None:
    curve = measured({8: 1.0, 16: 1.1})
    curve.observe(12, 2.0)
    assert curve.seconds(12) < 1.4
    assert curve.seconds(16) < 1.4


def test_noise_does_not_hide_what_a_row_costs() -> None:
    """A row costs a hundredth of the call here, and calls of one size differ by three."""
    rng, curve = random.Random(4), measured({1: 1.0, 8: 1.07, 16: 1.15})
    for _ in range(400):
        rows = rng.randrange(8, 24)
        curve.observe(rows, (1 + 0.01 * (rows - 1)) * (1 + 0.03 * rng.gauss(0, 1)))
    slope = (curve.seconds(20) - curve.seconds(10)) / (10 * curve.seconds(8))
    assert slope == pytest.approx(0.01, rel=0.4)


def test_a_curve_follows_a_machine_that_slows_down() -> None:
    curve = measured({1: 1.0, 4: 2.0})
    for _ in range(40):
        curve.observe(1, 2.0)
    assert curve.seconds(4) == pytest.approx(4.0, rel=0.35)


def test_what_a_change_of_rows_shows_is_about_the_rows() -> None:
    """Not about the machine, although its speed is not what it was when they were seen first."""
    curve = measured({1: 1.0, 4: 2.0})
    for rows, took_s in ((1, 1.3), (4, 1.3 * 2.4)) * 4:
        for _ in range(10):
            curve.observe(rows, took_s)
    assert curve.steady_s(4) / curve.steady_s(1) == pytest.approx(2.4, rel=0.05)


def test_what_a_run_of_as_many_rows_shows_is_about_the_machine() -> None:
    """So what was not met for long is still known beside it."""
    rng, curve = random.Random(2), measured({8: 1.0, 16: 1.4})
    speed = 1.0
    for _ in range(300):
        speed *= math.exp(0.02 * rng.gauss(0, 1))
        curve.observe(16, 1.4 * speed * math.exp(0.03 * rng.gauss(0, 1)))
    assert curve.steady_s(16) == pytest.approx(1.4 * speed, rel=0.1)
    assert curve.steady_s(16) / curve.steady_s(8) == pytest.approx(1.4, rel=0.1)


def test_it_is_learnt_what_a_change_of_rows_costs() -> None:
    """As on a GPU, where graphs are recorded anew."""
    rng, curve = random.Random(1), StepCost()
    steady = {1: 1.0, 4: 1.2}
    for _ in range(40):
        for rows in steady:
            for factor in (1.4, 1.7, *[1.0] * 10):
                curve.observe(rows, steady[rows] * factor * (1 + 0.03 * rng.gauss(0, 1)))
    assert curve.steady_s(1) == pytest.approx(1.0, rel=0.1)
    assert curve.seconds(1) == pytest.approx(1.4, rel=0.15)
    assert curve.seconds(4) == pytest.approx(1.2, rel=0.1)
    assert curve.settling_s(4) == pytest.approx(1.2 * 1.1, rel=0.2)
    assert curve.settling_s(1) == 0
    curve.disturb()
    assert curve.seconds(4) == pytest.approx(1.2 * 1.4, rel=0.15)


def test_no_noise_is_taken_for_the_cost_of_a_change() -> None:
    """Calls of a tiny model take many times as long now and then."""
    rng, curve = random.Random(1), measured({1: 1.0, 8: 2.0, 16: 3.0})
    for _ in range(20_000):
        rows = rng.choice((1, 1, 1, 8, 16))
        usual = {1: 1.0, 8: 2.0, 16: 3.0}[rows] * math.exp(0.3 * rng.gauss(0, 1))
        curve.observe(rows, usual * (8.0 if rng.random() < 0.05 else 1.0))
    assert curve.seconds(8) / curve.seconds(1) == pytest.approx(2.0, rel=0.4)
    assert 0.5 < curve.steady_s(1) < 3.0


def test_one_slow_step_is_not_believed() -> None:
    curve = measured({1: 1.0})
    curve.observe(1, 500.0)
    assert curve.seconds(1) < 2.5


def test_a_rate_follows_the_newest_calls() -> None:
    rate = TokenCost()
    assert not rate.is_known
    rate.observe(10, 1.0)
    assert rate.token_s == pytest.approx(0.1)
    rate.observe(10, 2.0)
    assert 0.1 < rate.token_s < 0.2
