"""How far to draft: the choice follows from costs and chances alone."""

from __future__ import annotations

from itertools import product

import pytest
from outrider.daemon.runner.tune import (
    GAIN,
    LENGTHS,
    Acceptance,
    Curve,
    Option,
    Purse,
    choose,
)

FLAT = {1: 1.0, 64: 1.05}  # a GPU: rows cost next to nothing
STEEP = {1: 1.0, 2: 1.6, 4: 2.8, 8: 7.1}  # a quantised model on a CPU


def curve(costs: dict[int, float]) -> Curve:
    return Curve(dict(costs))


def options(*chances: float, length: int = 8) -> list[Option]:
    return [Option((chance,) * length) for chance in chances]


def test_cheap_rows_are_used() -> None:
    assert choose(options(0.8), curve(FLAT), others=0, draft=None) == [8]


def test_dear_rows_are_not() -> None:
    assert choose(options(0.5, 0.4), curve(STEEP), others=0, draft=None) == [0, 0]


def test_who_guesses_better_is_given_more() -> None:
    lengths = choose(options(0.95, 0.3), curve({1: 1.0, 2: 1.2, 8: 2.4}), others=0, draft=None)
    assert lengths[0] > lengths[1]


@pytest.mark.parametrize("costs", [FLAT, STEEP, {1: 1.0, 2: 1.5, 3: 1.9, 5: 2.0, 8: 2.3}])
@pytest.mark.parametrize("chances", [(0.9, 0.5), (0.7, 0.7), (0.99, 0.2)])
def test_no_other_lengths_have_a_much_higher_goodput(
    costs: dict[int, float], chances: tuple[float, float]
) -> None:
    verify, asked = curve(costs), options(*chances)

    def goodput(lengths: tuple[int, ...]) -> float:
        gains = sum(sum(o.reach[:n]) for o, n in zip(asked, lengths, strict=True))
        return (len(asked) + gains) / verify.seconds(len(asked) + sum(lengths))

    possible = [n for n in LENGTHS if n <= 8]
    best = max(goodput(lengths) for lengths in product(possible, repeat=2))
    chosen = goodput(tuple(choose(asked, verify, others=0, draft=None)))
    assert chosen >= best / GAIN - 1e-9 or chosen >= 0.97 * best


def test_a_drafter_that_costs_too_much_is_left_alone() -> None:
    dear = [Option((0.9,) * 4, is_free=False)]
    verify = curve(FLAT)
    assert choose(dear, verify, others=0, draft=curve({1: 0.05})) == [4]
    assert choose(dear, verify, others=0, draft=curve({1: 0.95})) == [0]


def test_a_curve_follows_a_machine_that_slows_down() -> None:
    known = curve({1: 1.0, 4: 2.0})
    for _ in range(40):
        known.observe(1, 2.0)
    assert known.seconds(4) == pytest.approx(4.0, rel=0.35)


def test_one_slow_step_is_not_believed() -> None:
    known = curve({1: 1.0})
    known.observe(1, 500.0)
    assert known.seconds(1) < 1.5


def test_chances_are_learnt_by_stream() -> None:
    known = Acceptance()
    for _ in range(30):
        known.observe("ngram", 1, [0.8] * 3, 3)
        known.observe("ngram", 2, [0.8] * 3, 0)
    good = known.judged("ngram", 1, [0.8]).chances[0]
    bad = known.judged("ngram", 2, [0.8]).chances[0]
    new = known.judged("ngram", 3, [0.8]).chances[0]
    assert bad < 0.2 < new < good
    assert good > 0.85


def test_trying_costs_a_bounded_share_of_the_time() -> None:
    purse, spent_s = Purse(), 0.0
    for _ in range(1000):
        purse.earn(1.0)
        spent_s += 3.0 * purse.pay(3.0)
    assert 0 < spent_s <= 10.0 + 1e-6
