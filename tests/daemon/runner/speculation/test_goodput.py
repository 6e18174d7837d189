"""Which draft lengths follow from costs and acceptance rates, and what may drafting lose?"""

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
    DRAFT_COUNTS,
    MIN_GAIN,
    DraftPlan,
    RoundCosts,
    StreamCandidate,
    better_candidate,
    choose_lengths,
    num_to_extend,
)

pytestmark = pytest.mark.unit

FLAT = {1: 1.0, 64: 1.05}  # a GPU: rows cost almost nothing
STEEP = {1: 1.0, 2: 1.6, 4: 2.8, 8: 7.1}  # a quantised model on a CPU


def costs(
    verify: dict[int, float], draft: dict[int, float] | None = None, streams: int = 1
) -> RoundCosts:
    return RoundCosts(known(verify), known(draft or {}), streams=streams, rows=streams)


def made(*rates: float, length: int = 8) -> list[StreamCandidate]:
    """One stream per rate, with draft tokens that are made already."""
    return [StreamCandidate((rate,) * length, drafted=length) for rate in rates]


def test_cheap_rows_are_used() -> None:
    assert choose_lengths(made(0.8), costs(FLAT)).lengths == [8]


def test_expensive_rows_are_not() -> None:
    assert choose_lengths(made(0.5, 0.4), costs(STEEP, streams=2)).lengths == [0, 0]


def test_higher_acceptance_gets_longer_drafts() -> None:
    lengths = choose_lengths(made(0.95, 0.3), costs({1: 1.0, 2: 1.2, 8: 2.4}, streams=2)).lengths
    assert lengths[0] > lengths[1]


def test_requests_that_wait_for_a_first_token_count() -> None:
    some = costs({1: 1.0, 2: 1.2, 8: 2.4})
    alone, beside_three = (
        choose_lengths(made(0.8), dataclasses.replace(some, starting=starting)).lengths
        for starting in (0.0, 3.0)
    )
    assert alone[0] > 1
    assert beside_three == [0]


def test_equal_rows_respect_the_lowest_acceptance() -> None:
    equal = dataclasses.replace(costs(FLAT, streams=2), equal_rows=True)
    assert choose_lengths(made(0.95, 0.8), equal).lengths in ([4, 4], [6, 6], [8, 8])
    assert choose_lengths(made(0.95, 0.8, length=3), equal).lengths == [3, 3]
    assert choose_lengths([*made(0.95), StreamCandidate(())], equal).lengths == [0, 0]


@pytest.mark.parametrize("shape", [FLAT, STEEP, {1: 1.0, 2: 1.5, 3: 1.9, 5: 2.0, 8: 2.3}])
@pytest.mark.parametrize("rates", [(0.9, 0.5), (0.7, 0.7), (0.99, 0.2), (0.1, 0.05)])
def test_no_allowed_lengths_have_a_higher_goodput(
    shape: dict[int, float], rates: tuple[float, float]
) -> None:
    """Against all pairs of lengths: an allowed one has a total of DRAFT_COUNTS, and MIN_GAIN."""
    verify, streams = known(shape), made(*rates)

    def goodput(lengths: tuple[int, ...]) -> float:
        gains = sum(sum(each.cumulative[:n]) for each, n in zip(streams, lengths, strict=True))
        return (len(streams) + gains) / verify.next_s(len(streams) + sum(lengths))

    allowed = [pair for pair in product(range(9), repeat=2) if sum(pair) in DRAFT_COUNTS]
    best, plain = max(map(goodput, allowed)), goodput((0, 0))
    plan = choose_lengths(streams, costs(shape, streams=2))
    assert plan.goodput == pytest.approx(goodput(tuple(plan.lengths)))
    assert plan.goodput == pytest.approx(best if best > MIN_GAIN * plain else plain)


def test_a_drafter_that_costs_too_much_is_not_used() -> None:
    slow = [StreamCandidate((0.9,) * 4, rows=1)]
    assert choose_lengths(slow, costs(FLAT, {1: 0.05})).lengths == [4]
    assert choose_lengths(slow, costs(FLAT, {1: 0.95})).lengths == [0]


def test_drafter_prefill_counts() -> None:
    for token_s, lengths in ((0.0, [4]), (0.9, [0])):
        streams = [StreamCandidate((0.9,) * 4, rows=2, token_s=token_s)]
        assert choose_lengths(streams, costs(FLAT, {1: 0.05, 2: 0.06})).lengths == lengths


def test_a_draft_may_save_time_for_one_stream_and_not_for_four() -> None:
    shape = {1: 1.0, 2: 1.1, 4: 1.3, 8: 2.3, 16: 4.5}
    likely = StreamCandidate((0.7, 0.5), rows=2)
    nothing = StreamCandidate(())
    assert better_candidate(nothing, likely, costs(shape, {1: 0.1, 8: 0.4})) is likely
    assert better_candidate(nothing, likely, costs(shape, {1: 0.1, 8: 0.4}, streams=4)) is nothing


def test_no_draft_forward_for_a_single_stream_of_four() -> None:
    """The others have all their draft tokens."""
    complete = [StreamCandidate((0.9, 0.8), drafted=2) for _ in range(3)]
    one_more = StreamCandidate((0.9, 0.8, 0.9), drafted=2)
    step = costs(FLAT, {1: 0.1, 4: 0.12}, streams=4)
    assert choose_lengths([*complete, one_more], step).lengths == [2, 2, 2, 2]
    all_more = [one_more] * 4
    assert choose_lengths(all_more, step).lengths == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("verify", "drafted", "goes_on"),
    [
        ({1: 1.0, 8: 1.2, 9: 2.0, 16: 7.6}, 3, True),
        ({1: 1.0, 8: 1.2, 9: 2.0, 16: 7.6}, 7, False),  # all further rows are expensive
        ({1: 1.0, 8: 1.2, 9: 2.0, 16: 2.0}, 7, True),  # only the next row is
    ],
)
def test_drafting_goes_on_where_further_rows_are_cheap(
    verify: dict[int, float], drafted: int, *, goes_on: bool
) -> None:
    plan = DraftPlan([3], goodput=2.5)
    count = num_to_extend([0.9], drafted, plan, costs(verify, {1: 0.1}))
    assert (count == 1) is goes_on


def test_spent_time_shortens_no_draft() -> None:
    step = costs({1: 1.0, 2: 1.2, 3: 1.4}, {1: 0.3})
    started = dataclasses.replace(step, spent_s=0.3)
    two = [StreamCandidate((0.95, 0.5), drafted=1)]
    assert choose_lengths(two, step).lengths == choose_lengths(two, started).lengths == [1]
    assert choose_lengths(two, dataclasses.replace(step, spent_s=3.0)).lengths == [2]


def test_a_transient_raises_the_threshold_for_drafting() -> None:
    """Later steps take longer after a change of the row count, as with CUDA graphs."""
    step = costs({1: 1.0, 2: 1.4})
    two = [StreamCandidate((0.7,), drafted=1)]
    assert choose_lengths(two, step).lengths == [1]
    assert choose_lengths(two, dataclasses.replace(step, return_s=0.3)).lengths == [0]


def test_the_allowance_shrinks_with_the_number_of_streams() -> None:
    one, many = RegretBudget(), RegretBudget()
    for budget, streams in ((one, 1), (many, 8)):
        budget.charge(1.0, 0.6, streams=streams)
        budget.charge(1.0, 0.6, streams=streams)
    assert not one.is_paused
    assert many.is_paused


def test_speculation_loses_a_bounded_share_of_the_time() -> None:
    budget, lost_s, planned = RegretBudget(), 0.0, 0
    for _ in range(1000):
        extra_s = 0.0 if budget.is_paused else 0.5
        planned += not budget.is_paused
        budget.charge(1.0, extra_s)
        lost_s += extra_s
    assert lost_s <= REGRET_SHARE * 1000 + REGRET_STEPS + 0.5
    assert planned > 10


@pytest.mark.parametrize(("planning_s", "paused"), [(0.004, 0), (0.02, 3), (10.0, MAX_PAUSE_STEPS)])
def test_planning_without_a_draft_pauses_in_proportion(planning_s: float, paused: int) -> None:
    budget = RegretBudget(balance_s=100.0)
    budget.charge(1.0, 0.0)
    assert not budget.is_paused
    budget.charge(1.0, 0.0, idle_s=planning_s)
    steps = 0
    while budget.is_paused:
        budget.charge(1.0, 0.0)
        steps += 1
    assert steps == paused


def test_only_a_bounded_part_of_the_saved_time_can_be_lost() -> None:
    budget, lost_s = RegretBudget(), 0.0
    for _ in range(100):
        budget.charge(1.0, 0.1)
        budget.credit(1.0)
    while not budget.is_paused:
        budget.charge(1.0, REGRET_STEPS / 4)
        lost_s += REGRET_STEPS / 4
    assert REGRET_STEPS < lost_s < 2.5 * REGRET_STEPS


def test_a_probe_needs_a_balance() -> None:
    budget = RegretBudget()
    assert not budget.can_spend(0.1)
    for _ in range(11):
        budget.charge(1.0, 0.0)
    assert budget.can_spend(0.1)
    assert not budget.can_spend(0.2)
