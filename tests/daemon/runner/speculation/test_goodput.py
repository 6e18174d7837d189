"""How far to draft: the choice follows from costs and chances alone."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
from lab import known
from outrider.daemon.runner.speculation.budget import (
    MAX_PAUSE_STEPS,
    REGRET_SHARE,
    REGRET_STEPS,
    RegretBudget,
)
from outrider.daemon.runner.speculation.goodput import (
    MIN_GAIN,
    DraftPlan,
    RoundCosts,
    StreamCandidate,
    better,
    choose,
    num_worth,
)

pytestmark = pytest.mark.unit

FLAT = {1: 1.0, 64: 1.05}  # a GPU: rows cost next to nothing
STEEP = {1: 1.0, 2: 1.6, 4: 2.8, 8: 7.1}  # a quantised model on a CPU


def costs(
    verify: dict[int, float], draft: dict[int, float] | None = None, streams: int = 1
) -> RoundCosts:
    return RoundCosts(known(verify), known(draft or {}), streams=streams, rows=streams)


def options(*rates: float, length: int = 8) -> list[StreamCandidate]:
    """Guesses that are there already."""
    return [StreamCandidate((rate,) * length, drafted=length) for rate in rates]


def test_cheap_rows_are_used() -> None:
    assert choose(options(0.8), costs(FLAT)).lengths == [8]


def test_dear_rows_are_not() -> None:
    assert choose(options(0.5, 0.4), costs(STEEP, streams=2)).lengths == [0, 0]


def test_who_guesses_better_is_given_more() -> None:
    lengths = choose(options(0.95, 0.3), costs({1: 1.0, 2: 1.2, 8: 2.4}, streams=2)).lengths
    assert lengths[0] > lengths[1]


def test_who_waits_for_a_first_token_is_thought_of() -> None:
    some = costs({1: 1.0, 2: 1.2, 8: 2.4})
    alone, beside_three = (
        choose(options(0.8), dataclasses.replace(some, starting=starting)).lengths
        for starting in (0.0, 3.0)
    )
    assert alone[0] > 1
    assert beside_three == [0]


def test_where_all_must_be_given_as_many_the_worst_guesser_is_thought_of() -> None:
    even = dataclasses.replace(costs(FLAT, streams=2), is_even=True)
    assert choose(options(0.95, 0.8), even).lengths in ([4, 4], [6, 6], [8, 8])
    assert choose(options(0.95, 0.8, length=3), even).lengths == [3, 3]
    assert choose([*options(0.95), StreamCandidate(())], even).lengths == [0, 0]


@pytest.mark.parametrize("shape", [FLAT, STEEP, {1: 1.0, 2: 1.5, 3: 1.9, 5: 2.0, 8: 2.3}])
@pytest.mark.parametrize("rates", [(0.9, 0.5), (0.7, 0.7), (0.99, 0.2)])
def test_no_other_lengths_have_a_much_higher_goodput(
    shape: dict[int, float], rates: tuple[float, float]
) -> None:
    verify, asked = known(shape), options(*rates)

    def goodput(lengths: tuple[int, ...]) -> float:
        gains = sum(sum(o.cumulative[:n]) for o, n in zip(asked, lengths, strict=True))
        return (len(asked) + gains) / verify.seconds(len(asked) + sum(lengths))

    best = max(goodput(lengths) for lengths in product(range(9), repeat=2))
    plan = choose(asked, costs(shape, streams=2))
    chosen = goodput(tuple(plan.lengths))
    assert plan.goodput == pytest.approx(chosen)
    assert chosen >= best / MIN_GAIN - 1e-9 or chosen >= 0.97 * best


def test_a_drafter_that_costs_too_much_is_left_alone() -> None:
    dear = [StreamCandidate((0.9,) * 4, rows=1)]
    assert choose(dear, costs(FLAT, {1: 0.05})).lengths == [4]
    assert choose(dear, costs(FLAT, {1: 0.95})).lengths == [0]


def test_a_text_that_has_to_be_caught_up_with_pays_for_it() -> None:
    for token_s, lengths in ((0.0, [4]), (0.9, [0])):
        asked = [StreamCandidate((0.9,) * 4, rows=2, token_s=token_s)]
        assert choose(asked, costs(FLAT, {1: 0.05, 2: 0.06})).lengths == lengths


def test_what_pays_for_one_stream_need_not_pay_for_four() -> None:
    shape = {1: 1.0, 2: 1.1, 4: 1.3, 8: 2.3, 16: 4.5}
    likely = StreamCandidate((0.7, 0.5), rows=2)
    nothing = StreamCandidate(())
    assert better(nothing, likely, costs(shape, {1: 0.1, 8: 0.4})) is likely
    assert better(nothing, likely, costs(shape, {1: 0.1, 8: 0.4}, streams=4)) is nothing


def test_a_decode_for_one_stream_alone_is_not_worth_its_time() -> None:
    """The others have all their guesses; one that is as likely as theirs would need a decode."""
    there = [StreamCandidate((0.9, 0.8), drafted=2) for _ in range(3)]
    one_more = StreamCandidate((0.9, 0.8, 0.9), drafted=2)
    asked = costs(FLAT, {1: 0.1, 4: 0.12}, streams=4)
    assert choose([*there, one_more], asked).lengths == [2, 2, 2, 2]
    all_more = [one_more] * 4
    assert choose(all_more, asked).lengths == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("verify", "drafted", "is_worth_it"),
    [
        ({1: 1.0, 8: 1.2, 9: 2.0, 16: 7.6}, 3, True),
        ({1: 1.0, 8: 1.2, 9: 2.0, 16: 7.6}, 7, False),  # each row more is dear
        ({1: 1.0, 8: 1.2, 9: 2.0, 16: 2.0}, 7, True),  # only the next one is
    ],
)
def test_guesses_go_on_where_the_rows_after_them_are_cheap(
    verify: dict[int, float], drafted: int, *, is_worth_it: bool
) -> None:
    plan = DraftPlan([3], goodput=2.5)
    count = num_worth([0.9], drafted, plan, costs(verify, {1: 0.1}))
    assert (count == 1) is is_worth_it


def test_time_that_is_spent_is_no_reason_to_stop() -> None:
    asked = costs({1: 1.0, 2: 1.2, 3: 1.4}, {1: 0.3})
    started = dataclasses.replace(asked, spent_s=0.3)
    two = [StreamCandidate((0.95, 0.5), drafted=1)]
    assert choose(two, asked).lengths == choose(two, started).lengths == [1]
    assert choose(two, dataclasses.replace(asked, spent_s=3.0)).lengths == [2]


def test_who_decodes_steadily_needs_more_reason_to_begin() -> None:
    """Where later steps take longer once the number of rows has changed, as on a GPU."""
    asked = costs({1: 1.0, 2: 1.4})
    two = [StreamCandidate((0.7,), drafted=1)]
    assert choose(two, asked).lengths == [1]
    assert choose(two, dataclasses.replace(asked, leave_s=0.3)).lengths == [0]


def test_many_streams_have_less_luck_than_one() -> None:
    one, many = RegretBudget(), RegretBudget()
    for budget, streams in ((one, 1), (many, 8)):
        budget.settle(1.0, 0.6, streams=streams)
        budget.settle(1.0, 0.6, streams=streams)
    assert not one.is_paused
    assert many.is_paused


def test_reading_ahead_loses_a_bounded_share_of_the_time() -> None:
    budget, lost_s, thought = RegretBudget(), 0.0, 0
    for _ in range(1000):
        extra_s = 0.0 if budget.is_paused else 0.5
        thought += not budget.is_paused
        budget.settle(1.0, extra_s)
        lost_s += extra_s
    assert lost_s <= REGRET_SHARE * 1000 + REGRET_STEPS + 0.5
    assert thought > 10


@pytest.mark.parametrize(("thinking_s", "rested"), [(0.004, 0), (0.02, 3), (10.0, MAX_PAUSE_STEPS)])
def test_who_thought_in_vain_rests_in_proportion(thinking_s: float, rested: int) -> None:
    budget = RegretBudget(balance_s=100.0)
    budget.settle(1.0, 0.0)
    assert not budget.is_paused
    budget.settle(1.0, 0.0, idle_s=thinking_s)
    steps = 0
    while budget.is_paused:
        budget.settle(1.0, 0.0)
        steps += 1
    assert steps == rested


def test_what_was_won_may_be_lost_but_not_all_of_it() -> None:
    budget, lost_s = RegretBudget(), 0.0
    for _ in range(100):
        budget.settle(1.0, 0.1)
        budget.credit(1.0)
    while not budget.is_paused:
        budget.settle(1.0, REGRET_STEPS / 4)
        lost_s += REGRET_STEPS / 4
    assert REGRET_STEPS < lost_s < 2.5 * REGRET_STEPS


def test_a_try_is_made_where_it_can_be_paid() -> None:
    budget = RegretBudget()
    assert not budget.can_spend(0.1)
    for _ in range(11):
        budget.settle(1.0, 0.0)
    assert budget.can_spend(0.1)
    assert not budget.can_spend(0.2)
