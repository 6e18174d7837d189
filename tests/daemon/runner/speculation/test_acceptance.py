"""How likely a guess is right: by stream, by depth, by how sure drafter and target are."""

from __future__ import annotations

import pytest
from outrider.daemon.runner.speculation.acceptance import INITIAL_ACCEPTANCE, Acceptance

pytestmark = pytest.mark.unit

DRAFTER = "model"


def taught(
    stream: int, accepted: int, *, times: int = 30, target_confidence: float = 0.5
) -> Acceptance:
    known = Acceptance()
    teach(known, stream, accepted, times=times, target_confidence=target_confidence)
    return known


def teach(
    known: Acceptance,
    stream: int,
    accepted: int,
    *,
    times: int = 30,
    target_confidence: float = 0.5,
) -> None:
    known.observe_target(stream, target_confidence)
    for _ in range(times):
        known.observe(DRAFTER, stream, [0.8] * 3, accepted)


def test_chances_are_learnt_by_stream() -> None:
    known = taught(1, 3)
    teach(known, 2, 0)
    good, bad, new = (known.judged(DRAFTER, stream, 0.8) for stream in (1, 2, 3))
    assert bad < 0.4 < new < good
    assert good > 0.8


def test_what_nothing_is_known_of_is_tried() -> None:
    rates = Acceptance().expected(DRAFTER, 1, 3)
    assert rates == (INITIAL_ACCEPTANCE,) * 3


def test_a_depth_that_was_never_reached_is_judged_by_the_one_before() -> None:
    rates = taught(1, 2).expected(DRAFTER, 1, 4)
    assert rates[1] > 0.9
    assert rates[2] < 0.5
    assert rates[3] == rates[2]


def test_what_can_hardly_be_reached_is_not_thought_of() -> None:
    assert len(taught(1, 0, times=100).expected(DRAFTER, 1, 16)) < 5


def test_a_new_text_is_judged_by_those_that_the_target_is_as_sure_of() -> None:
    known = Acceptance()
    for text in range(0, 10, 2):
        teach(known, text, 0, target_confidence=0.4)
        teach(known, text + 1, 3, target_confidence=0.95)
    for stream, target_confidence in ((10, 0.4), (11, 0.95)):
        known.observe_target(stream, target_confidence)
    hard, easy = (known.expected(DRAFTER, stream, 1)[0] for stream in (10, 11))
    assert hard < 0.4 < 0.9 < easy
    hard, easy = (known.judged(DRAFTER, stream, 0.8) for stream in (10, 11))
    assert hard < 0.4 < 0.7 < easy


def test_a_text_of_an_ease_of_which_nothing_is_known_is_tried() -> None:
    known = taught(1, 0, target_confidence=0.4, times=200)
    known.observe_target(2, 0.95)
    assert known.expected(DRAFTER, 2, 1) == (INITIAL_ACCEPTANCE,)
    assert known.judged(DRAFTER, 2, 0.8) < 0.5  # but once it is made, it is a guess like others


def test_short_texts_outweigh_a_long_one() -> None:
    known = taught(1, 3, times=60)
    for text in range(2, 22):
        teach(known, text, 0, times=2)  # less than a fifth of the guesses
    assert known.judged(DRAFTER, 22, 0.8) < 0.5


def test_after_a_sure_guess_the_next_is_likelier() -> None:
    known = Acceptance()
    for _ in range(40):
        known.observe(DRAFTER, 1, [0.95, 0.9], 2)
        known.observe(DRAFTER, 1, [0.3, 0.5], 1)
    after = [known.after(DRAFTER, 1, sure, prior=0.6) for sure in (0.3, 0.95)]
    assert after[0] < 0.5 < after[1]


def test_a_stream_that_is_over_leaves_only_what_all_have_in_common() -> None:
    known = taught(1, 0, times=200)
    before = known.judged(DRAFTER, 1, 0.8)
    known.forget(1)
    assert known.judged(DRAFTER, 1, 0.8) == known.judged(DRAFTER, 9, 0.8) != before
