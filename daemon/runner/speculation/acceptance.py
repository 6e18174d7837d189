"""How often are drafted tokens accepted: by drafter, depth, confidence and stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# The figures without another source were set by hand, checked by tests/sim.
STREAM_DECAY = 0.97  # factor by which a stream's records fade per drafted token
GLOBAL_DECAY = 0.99  # factor by which the global records fade per drafted token
PRIOR_TRIALS = 16.0  # weight of the Beta prior, in drafted tokens
STREAM_TRIALS = 4.0
"""Drafted tokens of one stream after which one more counts half as much for other streams."""
INITIAL_ACCEPTANCE = 0.9
"""Acceptance rate that is assumed without any record; high, so that drafting starts."""
MIN_CUMULATIVE_ACCEPTANCE = 0.05
"""Cumulative acceptance below which deeper drafts are not considered."""
CONFIDENCE_BUCKETS = 8  # equal intervals of the drafter's confidence, a probability from 0 to 1
PREDICTABILITY_BOUNDS = (0.6, 0.75)
"""Mean confidence of the target that separates the predictability classes 0, 1 and 2."""
UNKNOWN_PREDICTABILITY, ANY_PREDICTABILITY = -1, -2
PREDICTABILITY_WEIGHT = 0.2
"""Weight of the newest token in the moving average of the target's confidence."""


@dataclass(slots=True)
class AcceptanceRecord:
    """Accepted tokens of drafted ones, both fading exponentially."""

    accepted: float = 0.0
    trials: float = 0.0

    def observe(self, is_accepted: bool, decay: float, weight: float = 1.0) -> None:
        kept = decay**weight
        self.accepted = kept * self.accepted + weight * is_accepted
        self.trials = kept * self.trials + weight

    def rate(self, prior: float) -> float:
        """Posterior mean with a Beta prior of mean `prior` and weight PRIOR_TRIALS."""
        return (self.accepted + PRIOR_TRIALS * prior) / (self.trials + PRIOR_TRIALS)


# A property of a drafted token that records are kept for: drafter, one of the names below, value.
Feature = tuple[str, str, int]
DEPTH, CONFIDENCE, PREVIOUS_CONFIDENCE = "depth", "confidence", "previous_confidence"
NO_RECORDS: Mapping[Feature, AcceptanceRecord] = {}


class Acceptance:
    """The rate at which a drafted token is accepted, given that those before it were.

    Shrinkage: global rate -> same predictability class -> this stream; each level is the Beta prior
    (weight PRIOR_TRIALS) of the next. Drafts of one stream are correlated, so each further one
    weighs less in the global records.

    The predictability of a stream is the mean confidence of the target in its own tokens, which
    costs no decode. Rates by depth, which are needed before anything is drafted, leave out the
    global rate, so that a predictability class without records is probed.
    """

    def __init__(
        self, global_records: dict[tuple[Feature, int], AcceptanceRecord] | None = None
    ) -> None:
        """`global_records`: of all streams, by feature and predictability class."""
        self.global_records = global_records or {}
        self._streams: dict[int, dict[Feature, AcceptanceRecord]] = {}
        self._target_confidence: dict[int, float] = {}  # moving average, by stream

    def observe_target(self, stream: int, confidence: float) -> None:
        """`confidence`: the probability that the target gave to its newest token."""
        mean = self._target_confidence.get(stream, confidence)
        self._target_confidence[stream] = mean + PREDICTABILITY_WEIGHT * (confidence - mean)

    def _predictability(self, stream: int) -> int:
        mean = self._target_confidence.get(stream)
        if mean is None:
            return UNKNOWN_PREDICTABILITY
        return bisect_right(PREDICTABILITY_BOUNDS, mean)

    def observe(
        self, drafter: str, stream: int, confidences: Sequence[float], accepted: int
    ) -> None:
        """The first `accepted` draft tokens were right and the next one, if any, was wrong."""
        own, predictability = self._streams.setdefault(stream, {}), self._predictability(stream)
        for depth, confidence in enumerate(confidences[: accepted + 1]):
            features = [(drafter, DEPTH, depth), _by_confidence(drafter, confidence)]
            if depth:
                features.append(_by_previous_confidence(drafter, confidences[depth - 1]))
            for feature in features:
                record = own.setdefault(feature, AcceptanceRecord())
                weight = STREAM_TRIALS / (STREAM_TRIALS + record.trials)
                for level in _levels(feature, predictability):
                    shared = self.global_records.setdefault((feature, level), AcceptanceRecord())
                    shared.observe(depth < accepted, GLOBAL_DECAY, weight)
                record.observe(depth < accepted, STREAM_DECAY)

    def has_accepted_run(self, drafter: str, stream: int) -> bool:
        """Whether two draft tokens in a row were accepted in this stream."""
        second = self._streams.get(stream, NO_RECORDS).get((drafter, DEPTH, 1))
        return second is not None and second.accepted > 0

    def expected_rates(self, drafter: str, stream: int, length: int) -> tuple[float, ...]:
        """Rates of up to `length` draft tokens that are not made yet, by depth.

        The prior of a depth is the rate of the one before. Ends where the cumulative acceptance
        falls below MIN_CUMULATIVE_ACCEPTANCE.
        """
        rates: list[float] = []
        rate, cumulative = INITIAL_ACCEPTANCE, 1.0
        for depth in range(length):
            rate = self._rate(stream, (drafter, DEPTH, depth), rate)
            rates.append(rate)
            cumulative *= rate
            if cumulative < MIN_CUMULATIVE_ACCEPTANCE:
                break
        return tuple(rates)

    def rate_after(self, drafter: str, stream: int, confidence: float, prior: float) -> float:
        """The rate of a draft token that is not made yet and follows one of this confidence."""
        return self._rate(stream, _by_previous_confidence(drafter, confidence), prior)

    def rate_of(self, drafter: str, stream: int, confidence: float) -> float:
        """The rate of a draft token of this confidence, which is also the prior of that rate."""
        return self._rate(stream, _by_confidence(drafter, confidence), confidence)

    def _rate(self, stream: int, feature: Feature, prior: float) -> float:
        rate = prior
        for level in _levels(feature, self._predictability(stream)):
            if record := self.global_records.get((feature, level)):
                rate = record.rate(rate)
        own = self._streams.get(stream, NO_RECORDS).get(feature)
        return own.rate(rate) if own else rate

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._target_confidence.pop(stream, None)


def _levels(feature: Feature, predictability: int) -> tuple[int, ...]:
    """The classes of global records that apply, the most specific one last."""
    if feature[1] == DEPTH:
        return (predictability,)
    return ANY_PREDICTABILITY, predictability


def _by_confidence(drafter: str, confidence: float) -> Feature:
    return drafter, CONFIDENCE, _bucket(confidence)


def _by_previous_confidence(drafter: str, confidence: float) -> Feature:
    return drafter, PREVIOUS_CONFIDENCE, _bucket(confidence)


def _bucket(confidence: float) -> int:
    return min(int(confidence * CONFIDENCE_BUCKETS), CONFIDENCE_BUCKETS - 1)
