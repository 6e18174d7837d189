"""From the logprobs of the codes to probabilities, choices and scores (CONTRACT 2.8)."""

from __future__ import annotations

import math

import pytest
from outrider.daemon.api.systemone.answers import concentration, normalise, word_answer
from outrider.daemon.api.systemone.questions import Option, Question
from outrider.daemon.errors import RunnerError

pytestmark = pytest.mark.unit

CHOICE = Question("q", "choice", "What?", (Option("x", "Ex"), Option("y", "y")))
NOUL = Question("q", "noul", "Is it?", (Option(False, "No"), Option(True, "Yes")))
SCORE = Question(
    "q", "score", "How?", (Option("0", "low"), Option("1", "mid"), Option("2", "high"))
)


def test_a_choice() -> None:
    answer = word_answer(CHOICE, (math.log(0.01), math.log(0.03)))
    probabilities = answer.pop("probabilities")
    assert probabilities == pytest.approx({"x": 0.25, "y": 0.75})
    assert answer.pop("confidence") == pytest.approx(1 - 0.8112781, abs=1e-6)  # in bits
    assert answer == {"type": "choice", "choice": "y"}


def test_of_equal_options_the_first_is_chosen_without_confidence() -> None:
    answer = word_answer(CHOICE, (-3.0, -3.0))
    assert (answer["choice"], answer["confidence"]) == ("x", 0.0)


def test_a_noul_is_the_probability_of_true() -> None:
    assert word_answer(NOUL, (-1000.0, -1.0)) == {"type": "noul", "noul": 1.0}
    assert word_answer(NOUL, (0.0, -math.inf)) == {"type": "noul", "noul": 0.0}
    answer = word_answer(NOUL, (math.log(0.8), math.log(0.2)))
    assert answer["noul"] == pytest.approx(0.2)


def test_a_score_is_the_mean_level() -> None:
    answer = word_answer(SCORE, tuple(map(math.log, (0.1, 0.2, 0.1))))
    assert answer["score"] == pytest.approx(1.0)
    assert answer["legend"] == {"0": "low", "1": "mid", "2": "high"}
    assert answer["probabilities"] == pytest.approx({"0": 0.25, "1": 0.5, "2": 0.25})
    assert list(answer) == ["type", "score", "legend", "probabilities", "confidence"]
    assert answer["confidence"] == pytest.approx(1 - 1.5 / math.log2(3), abs=1e-6)


@pytest.mark.parametrize(
    ("shares", "confidence"),
    [
        ((0.0125, 0.9781, 0.0093), 0.8906),  # the worked examples of Ollama's documentation
        ((0.966, 0.017, 0.010, 0.007), 0.868),
    ],
)
def test_the_confidence_is_ollamas(shares: tuple[float, ...], confidence: float) -> None:
    assert concentration(shares) == pytest.approx(confidence, abs=5e-4)


def test_a_model_without_any_option_in_mind_fails() -> None:
    assert normalise((-1e5, -math.inf)) == [1.0, 0.0]
    with pytest.raises(RunnerError, match="no option"):
        normalise((-math.inf, -math.inf))
