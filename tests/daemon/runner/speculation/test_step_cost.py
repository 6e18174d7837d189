"""Does the cost model follow noisy calls on a machine whose speed changes?"""

from __future__ import annotations

import math
import random

import pytest
from lab import known
from outrider.daemon.runner.speculation.step_cost import StepCost, TokenCost

pytestmark = pytest.mark.unit


def measured(costs: dict[int, float]) -> StepCost:
    cost = StepCost()
    for rows, took_s in costs.items():
        cost.observe(rows, took_s)
    return cost


def test_costs_are_interpolated() -> None:
    cost = known({1: 1.0, 4: 1.6, 8: 4.0})
    assert [cost.next_s(rows) for rows in (1, 2, 4, 6, 8)] == pytest.approx([1, 1.2, 1.6, 2.8, 4])
    assert cost.next_s(10) == pytest.approx(5.2)  # along the last two
    assert cost.table(3) == pytest.approx([0, 1, 1.2, 1.4])


def test_what_was_measured_is_reported_in_order() -> None:
    costs = known({8: 4.0, 1: 1.0}).measured()
    assert [cost.rows for cost in costs] == [1, 8]
    assert [cost.seconds for cost in costs] == pytest.approx([1.0, 4.0])
    assert StepCost().measured() == ()


def test_one_measurement_is_extrapolated() -> None:
    assert measured({2: 1.0}).next_s(4) == pytest.approx(2.0)


def test_more_rows_never_cost_less() -> None:
    """Two row counts that contradict each other are pooled."""
    cost = measured({1: 1.0, 2: 2.0, 3: 1.5, 8: 3.0})
    assert cost.next_s(2) == cost.next_s(3)
    assert 1.5 < cost.next_s(3) < 2.0
    costs = cost.table(12)
    assert costs == sorted(costs)


def test_a_new_row_count_starts_from_its_neighbours() -> None:
    cost = measured({8: 1.0, 16: 1.1})
    cost.observe(12, 2.0)
    assert cost.next_s(12) < 1.4
    assert cost.next_s(16) < 1.4


def test_noise_does_not_hide_what_a_row_costs() -> None:
    """A row costs 1 % of a call here, and the noise of a call is 3 %."""
    rng, cost = random.Random(4), measured({1: 1.0, 8: 1.07, 16: 1.15})
    for _ in range(400):
        rows = rng.randrange(8, 24)
        cost.observe(rows, (1 + 0.01 * (rows - 1)) * (1 + 0.03 * rng.gauss(0, 1)))
    slope = (cost.next_s(20) - cost.next_s(10)) / (10 * cost.next_s(8))
    assert slope == pytest.approx(0.01, rel=0.4)


def test_all_costs_follow_a_machine_that_slows_down() -> None:
    cost = measured({1: 1.0, 4: 2.0})
    for _ in range(40):
        cost.observe(1, 2.0)
    assert cost.next_s(4) == pytest.approx(4.0, rel=0.35)


def test_an_innovation_after_a_change_of_rows_corrects_the_rows() -> None:
    """Not the speed, although that has changed since the first measurement."""
    cost = measured({1: 1.0, 4: 2.0})
    for rows, took_s in ((1, 1.3), (4, 1.3 * 2.4)) * 4:
        for _ in range(10):
            cost.observe(rows, took_s)
    assert cost.steady_s(4) / cost.steady_s(1) == pytest.approx(2.4, rel=0.05)


def test_an_innovation_without_a_change_corrects_the_speed() -> None:
    """So the ratio to a row count that was not measured for long is kept."""
    rng, cost = random.Random(2), measured({8: 1.0, 16: 1.4})
    speed = 1.0
    for _ in range(300):
        speed *= math.exp(0.02 * rng.gauss(0, 1))
        cost.observe(16, 1.4 * speed * math.exp(0.03 * rng.gauss(0, 1)))
    assert cost.steady_s(16) == pytest.approx(1.4 * speed, rel=0.1)
    assert cost.steady_s(16) / cost.steady_s(8) == pytest.approx(1.4, rel=0.1)


def test_transient_factors_are_learned() -> None:
    """As on a GPU, where graphs are captured anew."""
    rng, cost = random.Random(1), StepCost()
    steady = {1: 1.0, 4: 1.2}
    for _ in range(40):
        for rows in steady:
            for factor in (1.4, 1.7, *[1.0] * 10):
                cost.observe(rows, steady[rows] * factor * (1 + 0.03 * rng.gauss(0, 1)))
    assert cost.steady_s(1) == pytest.approx(1.0, rel=0.1)
    assert cost.next_s(1) == pytest.approx(1.4, rel=0.15)
    assert cost.next_s(4) == pytest.approx(1.2, rel=0.1)
    assert cost.return_s(4) == pytest.approx(1.2 * 1.1, rel=0.2)
    assert cost.return_s(1) == 0
    cost.interrupt()
    assert cost.next_s(4) == pytest.approx(1.2 * 1.4, rel=0.15)


def test_noise_is_not_taken_for_a_transient() -> None:
    """One call in twenty of a tiny model takes 8 times as long."""
    rng, cost = random.Random(1), measured({1: 1.0, 8: 2.0, 16: 3.0})
    for _ in range(20_000):
        rows = rng.choice((1, 1, 1, 8, 16))
        usual = {1: 1.0, 8: 2.0, 16: 3.0}[rows] * math.exp(0.3 * rng.gauss(0, 1))
        cost.observe(rows, usual * (8.0 if rng.random() < 0.05 else 1.0))
    assert cost.next_s(8) / cost.next_s(1) == pytest.approx(2.0, rel=0.4)
    assert 0.5 < cost.steady_s(1) < 3.0


def test_an_outlier_is_clipped() -> None:
    cost = measured({1: 1.0})
    cost.observe(1, 500.0)
    assert cost.next_s(1) < 2.5


def test_a_token_cost_follows_the_newest_calls() -> None:
    cost = TokenCost()
    assert not cost.is_known
    cost.observe(10, 1.0)
    assert cost.token_s == pytest.approx(0.1)
    cost.observe(10, 2.0)
    assert 0.1 < cost.token_s < 0.2
