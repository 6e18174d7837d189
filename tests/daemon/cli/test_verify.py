"""Where two answers differ, and whether rounding explains it."""

from __future__ import annotations

import pytest
from outrider.daemon.cli.bench_prompts import BenchRequest
from outrider.daemon.cli.client import Json
from outrider.daemon.cli.verify import Outcome, first_difference, sentence

pytestmark = pytest.mark.unit


def token(text: str, logprob: float, **others: float) -> Json:
    top = [{"token": t, "bytes": list(t.encode()), "logprob": p} for t, p in others.items()]
    own = {"token": text, "bytes": list(text.encode()), "logprob": logprob}
    return {**own, "top_logprobs": [own, *top]}


START = token("once", -0.1)


def test_equal_answers_have_no_difference() -> None:
    run = [START, token("a", -1.0)]
    assert first_difference(run, run) is None
    assert first_difference([], []) is None


def test_two_tokens_of_nearly_the_same_logprob_are_a_near_tie() -> None:
    difference = first_difference(
        [START, token("a", -0.6931, b=-0.6932)], [START, token("b", -0.6930, a=-0.6933)]
    )
    assert difference
    assert difference.is_near_tie
    assert str(difference) == (
        "near-tie at token 1: plain took 'a' (logprob -0.693100 plain, -0.693300 speculative), "
        "speculative took 'b' (logprob -0.693200 plain, -0.693000 speculative)"
    )


def test_another_distribution_is_a_difference() -> None:
    difference = first_difference([token("a", -0.1, b=-3.0)], [token("b", -0.1, a=-3.0)])
    assert difference
    assert not difference.is_near_tie
    assert str(difference).startswith("DIFFERENT at token 0")


def test_a_token_that_is_not_in_the_other_runs_logprobs_is_a_difference() -> None:
    difference = first_difference([token("a", -0.7)], [token("b", -0.7)])
    assert difference
    assert not difference.is_near_tie
    assert "(logprob -0.700000 plain, ? speculative)" in str(difference)


def test_an_answer_that_ends_early_is_a_difference() -> None:
    difference = first_difference([START, token("a", -0.1)], [START])
    assert difference
    assert difference.position == 1
    assert not difference.is_near_tie


def test_the_sentence_counts() -> None:
    request = BenchRequest("m", "chat", "4")
    tie = first_difference([token("a", -0.7, b=-0.7)], [token("b", -0.7, a=-0.7)])
    other = first_difference([token("a", -0.7)], [token("b", -0.7)])
    outcomes = [Outcome(request, 20, 7, difference) for difference in (None, None, tie, other)]
    assert sentence(outcomes) == (
        "4 answers with 28 draft tokens: 2 identical, 1 differ at a near-tie, 1 are different"
    )
