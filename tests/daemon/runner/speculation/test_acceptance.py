"""How is the acceptance rate of a draft token estimated?"""

from __future__ import annotations

import pytest
from outrider.daemon.runner.speculation.acceptance import INITIAL_ACCEPTANCE, Acceptance

pytestmark = pytest.mark.unit

DRAFTER = "model"


def trained(
    stream: int, accepted: int, *, times: int = 30, target_confidence: float = 0.5
) -> Acceptance:
    acceptance = Acceptance()
    train(acceptance, stream, accepted, times=times, target_confidence=target_confidence)
    return acceptance


def train(
    acceptance: Acceptance,
    stream: int,
    accepted: int,
    *,
    times: int = 30,
    target_confidence: float = 0.5,
) -> None:
    acceptance.observe_target(stream, target_confidence)
    for _ in range(times):
        acceptance.observe(DRAFTER, stream, [0.8] * 3, accepted)


def test_rates_are_learned_by_stream() -> None:
    acceptance = trained(1, 3)
    train(acceptance, 2, 0)
    good, bad, new = (acceptance.rate_of(DRAFTER, stream, 0.8) for stream in (1, 2, 3))
    assert bad < 0.4 < new < good
    assert good > 0.8


def test_without_records_the_rate_is_high() -> None:
    rates = Acceptance().expected_rates(DRAFTER, 1, 3)
    assert rates == (INITIAL_ACCEPTANCE,) * 3


def test_a_depth_without_records_takes_the_rate_of_the_one_before() -> None:
    rates = trained(1, 2).expected_rates(DRAFTER, 1, 4)
    assert rates[1] > 0.9
    assert rates[2] < 0.5
    assert rates[3] == rates[2]


def test_depths_with_a_low_cumulative_acceptance_are_left_out() -> None:
    assert len(trained(1, 0, times=100).expected_rates(DRAFTER, 1, 16)) < 5


def test_a_new_stream_takes_the_rate_of_its_predictability_class() -> None:
    acceptance = Acceptance()
    for text in range(0, 10, 2):
        train(acceptance, text, 0, target_confidence=0.4)
        train(acceptance, text + 1, 3, target_confidence=0.95)
    for stream, target_confidence in ((10, 0.4), (11, 0.95)):
        acceptance.observe_target(stream, target_confidence)
    hard, easy = (acceptance.expected_rates(DRAFTER, stream, 1)[0] for stream in (10, 11))
    assert hard < 0.4 < 0.9 < easy
    hard, easy = (acceptance.rate_of(DRAFTER, stream, 0.8) for stream in (10, 11))
    assert hard < 0.4 < 0.7 < easy


def test_a_predictability_class_without_records_is_probed() -> None:
    acceptance = trained(1, 0, target_confidence=0.4, times=200)
    acceptance.observe_target(2, 0.95)
    assert acceptance.expected_rates(DRAFTER, 2, 1) == (INITIAL_ACCEPTANCE,)
    assert acceptance.rate_of(DRAFTER, 2, 0.8) < 0.5  # once drafted, the global rate applies


def test_short_streams_outweigh_a_long_one() -> None:
    acceptance = trained(1, 3, times=60)
    for text in range(2, 22):
        train(acceptance, text, 0, times=2)  # less than a fifth of the draft tokens
    assert acceptance.rate_of(DRAFTER, 22, 0.8) < 0.5


def test_a_confident_token_raises_the_rate_of_the_next() -> None:
    acceptance = Acceptance()
    for _ in range(40):
        acceptance.observe(DRAFTER, 1, [0.95, 0.9], 2)
        acceptance.observe(DRAFTER, 1, [0.3, 0.5], 1)
    after = [acceptance.rate_after(DRAFTER, 1, confidence, prior=0.6) for confidence in (0.3, 0.95)]
    assert after[0] < 0.5 < after[1]


def test_a_finished_stream_leaves_only_global_records() -> None:
    acceptance = trained(1, 0, times=200)
    before = acceptance.rate_of(DRAFTER, 1, 0.8)
    acceptance.forget(1)
    assert acceptance.rate_of(DRAFTER, 1, 0.8) == acceptance.rate_of(DRAFTER, 9, 0.8) != before
