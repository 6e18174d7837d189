"""How do the scores of the codes become an answer? (CONTRACT 2.8)"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...errors import RunnerError
from ..streaming import Line
from .questions import CHOICE, NOUL, Question


def word_answer(question: Question, scores: Sequence[float]) -> Line:
    """The answer on the wire; `scores` are the logprobs of the question's codes.

    Raises RunnerError if the model gave all of them the probability 0.
    """
    shares = normalise(scores)
    if question.kind == NOUL:
        return {"type": NOUL, "noul": shares[-1]}  # the last option is "true"
    keys = [str(option.value) for option in question.options]
    spread: Line = {
        "probabilities": dict(zip(keys, shares, strict=True)),
        "confidence": concentration(shares),
    }
    if question.kind == CHOICE:
        best = shares.index(max(shares))  # of equal ones the first
        return {"type": CHOICE, "choice": keys[best]} | spread
    level = sum(i * share for i, share in enumerate(shares))
    legend = {key: option.description for key, option in zip(keys, question.options, strict=True)}
    return {"type": question.kind, "score": level, "legend": legend} | spread


def normalise(scores: Sequence[float]) -> list[float]:
    """The probability of each option if it is one of them. Raises RunnerError as `word_answer`."""
    peak = max(scores)
    if not math.isfinite(peak):
        raise RunnerError("the model gives no option of a question any probability")
    weights = [math.exp(score - peak) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]


def concentration(shares: Sequence[float]) -> float:
    """1 - entropy / its maximum: 1 if one option is certain, 0 if all are equally likely."""
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    return min(max(1 - entropy / math.log(len(shares)), 0.0), 1.0)
