"""How often guesses are right: by drafter, by depth, by how sure the drafter was, by stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DECAY = 0.97  # of what is known about acceptance of a stream, by guess, ...
DECAY_OF_ALL = 0.99  # ... and of all streams
PRIOR_TRIALS = 16.0  # that what is believed at first, or known of others, counts for
STREAM_TRIALS = 4.0  # of one text, after which one more says half as much about other texts
INITIAL_ACCEPTANCE = 0.9  # of a guess of which nothing is known, so that it is tried
MIN_CUMULATIVE_ACCEPTANCE = 0.05  # chance of being reached below which a guess is not thought of
CONFIDENCE_BUCKETS = 8  # of a drafter's confidence
PREDICTABILITY_BOUNDS = (
    0.6,
    0.75,
)  # how sure the target is of its own tokens, where texts are told apart
UNKNOWN_PREDICTABILITY, ANY_PREDICTABILITY = -1, -2
PREDICTABILITY_MEMORY = 0.2  # weight of the newest token in that


@dataclass(slots=True)
class AcceptanceRecord:
    """How often something was right; old guesses count less and less."""

    right: float = 0.0
    total: float = 0.0

    def observe(self, is_right: bool, decay: float, weight: float = 1.0) -> None:
        kept = decay**weight
        self.right = kept * self.right + weight * is_right
        self.total = kept * self.total + weight

    def rate(self, prior: float) -> float:
        return (self.right + PRIOR_TRIALS * prior) / (self.total + PRIOR_TRIALS)


# What a guess is like: (drafter, "depth", its depth), (drafter, "sure", bucket of its confidence),
# (drafter, "after", that of the one before it)
Kind = tuple[str, str, int]
NOTHING: Mapping[Kind, AcceptanceRecord] = {}  # is known of a text yet


class Acceptance:
    """How likely a guess is right, if those before it were.

    What all texts say of such guesses is the first word; then those are heard that are as easy, and
    at last the stream's own: each is drawn towards the one before. The guesses of one text are much
    alike, so a long one says little more to others than a short one does.

    How sure the target is of its own tokens tells how easy a text is, for nothing. Before any guess
    is made only texts as easy are asked, so that it is tried where nothing is known.
    """

    def __init__(self, general: dict[tuple[Kind, int], AcceptanceRecord] | None = None) -> None:
        self.general = general or {}  # of all streams, by ease of their texts
        self._streams: dict[int, dict[Kind, AcceptanceRecord]] = {}
        self._target_confidence: dict[int, float] = {}  # of the target, by stream

    def observe_target(self, stream: int, target_confidence: float) -> None:
        """How sure the target was of its newest token: a probability."""
        before = self._target_confidence.get(stream, target_confidence)
        self._target_confidence[stream] = before + PREDICTABILITY_MEMORY * (
            target_confidence - before
        )

    def _predictability(self, stream: int) -> int:
        target_confidence = self._target_confidence.get(stream)
        return (
            UNKNOWN_PREDICTABILITY
            if target_confidence is None
            else bisect_right(PREDICTABILITY_BOUNDS, target_confidence)
        )

    def observe(
        self, drafter: str, stream: int, confidences: Sequence[float], accepted: int
    ) -> None:
        """The first `accepted` guesses were right; the next one, if any, was wrong."""
        own, predictability = self._streams.setdefault(stream, {}), self._predictability(stream)
        for depth, confidence in enumerate(confidences[: accepted + 1]):
            kinds = [(drafter, "depth", depth), _confidence_kind(drafter, confidence)]
            if depth:
                kinds.append(_previous_confidence_kind(drafter, confidences[depth - 1]))
            for kind in kinds:
                of_stream = own.setdefault(kind, AcceptanceRecord())
                weight = STREAM_TRIALS / (STREAM_TRIALS + of_stream.total)
                for texts in _predictability_classes(kind, predictability):
                    of_all = self.general.setdefault((kind, texts), AcceptanceRecord())
                    of_all.observe(depth < accepted, DECAY_OF_ALL, weight)
                of_stream.observe(depth < accepted, DECAY)

    def is_proven(self, drafter: str, stream: int) -> bool:
        """Whether two guesses in a row have been right in this text."""
        second = self._streams.get(stream, NOTHING).get((drafter, "depth", 1))
        return second is not None and second.right > 0

    def expected(self, drafter: str, stream: int, length: int) -> tuple[float, ...]:
        """Of up to `length` guesses that are not made yet, as far as they may be reached at all; a
        depth that was seldom reached is judged by the one before it."""
        rates: list[float] = []
        rate, cumulative = INITIAL_ACCEPTANCE, 1.0
        for depth in range(length):
            rate = self._rate(stream, (drafter, "depth", depth), rate)
            rates.append(rate)
            cumulative *= rate
            if cumulative < MIN_CUMULATIVE_ACCEPTANCE:
                break
        return tuple(rates)

    def after(self, drafter: str, stream: int, confidence: float, prior: float) -> float:
        """Of a guess that is not made yet, after one of which it is known how sure it is."""
        return self._rate(stream, _previous_confidence_kind(drafter, confidence), prior)

    def judged(self, drafter: str, stream: int, confidence: float) -> float:
        """Of a guess whose confidence is known."""
        return self._rate(stream, _confidence_kind(drafter, confidence), confidence)

    def _rate(self, stream: int, kind: Kind, prior: float) -> float:
        """What is believed of a stream's guesses of that kind."""
        rate = prior
        for texts in _predictability_classes(kind, self._predictability(stream)):
            if record := self.general.get((kind, texts)):
                rate = record.rate(rate)
        own = self._streams.get(stream, NOTHING).get(kind)
        return own.rate(rate) if own else rate

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._target_confidence.pop(stream, None)


def _predictability_classes(kind: Kind, predictability: int) -> tuple[int, ...]:
    """What texts have a say, the last word last."""
    return (predictability,) if kind[1] == "depth" else (ANY_PREDICTABILITY, predictability)


def _confidence_kind(drafter: str, confidence: float) -> Kind:
    return drafter, "sure", _bucket(confidence)


def _previous_confidence_kind(drafter: str, confidence: float) -> Kind:
    return drafter, "after", _bucket(confidence)


def _bucket(confidence: float) -> int:
    return min(int(confidence * CONFIDENCE_BUCKETS), CONFIDENCE_BUCKETS - 1)
