"""How far to draft: the choice follows from costs and chances alone."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
from outrider.daemon.runner.tune import (
    GAIN,
    LENGTHS,
    Acceptance,
    Costs,
    Curve,
    Option,
    Purse,
    better,
    choose,
)

FLAT = {1: 1.0, 64: 1.05}  # a GPU: rows cost next to nothing
STEEP = {1: 1.0, 2: 1.6, 4: 2.8, 8: 7.1}  # a quantised model on a CPU


def curve(costs: dict[int, float]) -> Curve:
    return Curve(dict(costs))


def costs(
    verify: dict[int, float], draft: dict[int, float] | None = None, streams: int = 1
) -> Costs:
    return Costs(curve(verify), curve(draft or {}), streams=streams, rows=streams)


def options(*chances: float, length: int = 8) -> list[Option]:
    return [Option((chance,) * length) for chance in chances]


def test_cheap_rows_are_used() -> None:
    assert choose(options(0.8), costs(FLAT)).lengths == [8]


def test_dear_rows_are_not() -> None:
    assert choose(options(0.5, 0.4), costs(STEEP, streams=2)).lengths == [0, 0]


def test_who_guesses_better_is_given_more() -> None:
    lengths = choose(options(0.95, 0.3), costs({1: 1.0, 2: 1.2, 8: 2.4}, streams=2)).lengths
    assert lengths[0] > lengths[1]


def test_where_all_must_be_given_as_many_the_worst_guesser_is_thought_of() -> None:
    even = dataclasses.replace(costs(FLAT, streams=2), is_even=True)
    assert choose(options(0.95, 0.8), even).lengths in ([4, 4], [6, 6], [8, 8])
    assert choose(options(0.95, 0.8, length=3), even).lengths == [3, 3]
    assert choose([*options(0.95), Option(())], even).lengths == [0, 0]


@pytest.mark.parametrize("shape", [FLAT, STEEP, {1: 1.0, 2: 1.5, 3: 1.9, 5: 2.0, 8: 2.3}])
@pytest.mark.parametrize("chances", [(0.9, 0.5), (0.7, 0.7), (0.99, 0.2)])
def test_no_other_lengths_have_a_much_higher_goodput(
    shape: dict[int, float], chances: tuple[float, float]
) -> None:
    verify, asked = curve(shape), options(*chances)

    def goodput(lengths: tuple[int, ...]) -> float:
        gains = sum(sum(o.reach[:n]) for o, n in zip(asked, lengths, strict=True))
        return (len(asked) + gains) / verify.seconds(len(asked) + sum(lengths))

    possible = [n for n in LENGTHS if n <= 8]
    best = max(goodput(lengths) for lengths in product(possible, repeat=2))
    plan = choose(asked, costs(shape, streams=2))
    chosen = goodput(tuple(plan.lengths))
    assert plan.goodput == pytest.approx(chosen)
    assert chosen >= best / GAIN - 1e-9 or chosen >= 0.97 * best


def test_a_drafter_that_costs_too_much_is_left_alone() -> None:
    dear = [Option((0.9,) * 4, rows=1)]
    assert choose(dear, costs(FLAT, {1: 0.05})).lengths == [4]
    assert choose(dear, costs(FLAT, {1: 0.95})).lengths == [0]


def test_a_text_that_has_to_be_caught_up_with_pays_for_it() -> None:
    for token_s, lengths in ((0.0, [4]), (0.9, [0])):
        asked = [Option((0.9,) * 4, rows=2, token_s=token_s)]
        assert choose(asked, costs(FLAT, {1: 0.05, 2: 0.06})).lengths == lengths


def test_what_pays_for_one_stream_need_not_pay_for_four() -> None:
    shape = {1: 1.0, 2: 1.1, 4: 1.3, 8: 2.3, 16: 4.5}
    likely = Option((0.7, 0.5), rows=2)
    nothing = Option(())
    assert better(nothing, likely, costs(shape, {1: 0.1, 8: 0.4})) is likely
    assert better(nothing, likely, costs(shape, {1: 0.1, 8: 0.4}, streams=4)) is nothing


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
    good = known.judged("ngram", 1, [0.8])[0]
    bad = known.judged("ngram", 2, [0.8])[0]
    new = known.judged("ngram", 3, [0.8])[0]
    assert bad < 0.2 < new < good
    assert good > 0.85


def test_trying_costs_a_bounded_share_of_the_time() -> None:
    purse, spent_s = Purse(), 0.0
    for _ in range(1000):
        purse.earn(1.0)
        spent_s += 3.0 * purse.pay(3.0)
    assert 0 < spent_s <= 10.0 + 1e-6
