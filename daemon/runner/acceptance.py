"""How often guesses are right: by drafter, by depth, by how sure the drafter was, by stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DECAY = 0.97  # of what is known about acceptance of a stream, by guess, ...
DECAY_OF_ALL = 0.99  # ... and of all streams
PRIOR_GUESSES = 16.0  # that what is believed at first, or known of others, counts for
TEXT_GUESSES = 4.0  # of one text, after which one more says half as much about other texts
FIRST_CHANCE = 0.9  # of a guess of which nothing is known, so that it is tried
UNLIKELY = 0.05  # chance of being reached below which a guess is not thought of
BUCKETS = 8  # of a drafter's confidence
EASE = (0.6, 0.75)  # how sure the target is of its own tokens, where texts are told apart
EASE_UNKNOWN, ANY_EASE = -1, -2
EASE_MEMORY = 0.2  # weight of the newest token in that


@dataclass(slots=True)
class Record:
    """How often something was right; old guesses count less and less."""

    right: float = 0.0
    total: float = 0.0

    def observe(self, is_right: bool, decay: float, weight: float = 1.0) -> None:
        kept = decay**weight
        self.right = kept * self.right + weight * is_right
        self.total = kept * self.total + weight

    def chance(self, prior: float) -> float:
        return (self.right + PRIOR_GUESSES * prior) / (self.total + PRIOR_GUESSES)


# What a guess is like: (drafter, "depth", its depth), (drafter, "sure", bucket of its confidence),
# (drafter, "after", that of the one before it)
Kind = tuple[str, str, int]
NOTHING: Mapping[Kind, Record] = {}  # is known of a text yet


class Acceptance:
    """How likely a guess is right, if those before it were.

    What all texts say of such guesses is the first word; then those are heard that are as easy, and
    at last the stream's own: each is drawn towards the one before. The guesses of one text are much
    alike, so a long one says little more to others than a short one does.

    How sure the target is of its own tokens tells how easy a text is, for nothing. Before any guess
    is made only texts as easy are asked, so that it is tried where nothing is known.
    """

    def __init__(self, general: dict[tuple[Kind, int], Record] | None = None) -> None:
        self.general = general or {}  # of all streams, by ease of their texts
        self._streams: dict[int, dict[Kind, Record]] = {}
        self._target_confidence: dict[int, float] = {}  # of the target, by stream

    def observe_target(self, stream: int, target_confidence: float) -> None:
        """How sure the target was of its newest token: a probability."""
        before = self._target_confidence.get(stream, target_confidence)
        self._target_confidence[stream] = before + EASE_MEMORY * (target_confidence - before)

    def _ease(self, stream: int) -> int:
        target_confidence = self._target_confidence.get(stream)
        return EASE_UNKNOWN if target_confidence is None else bisect_right(EASE, target_confidence)

    def observe(
        self, drafter: str, stream: int, confidences: Sequence[float], accepted: int
    ) -> None:
        """The first `accepted` guesses were right; the next one, if any, was wrong."""
        own, ease = self._streams.setdefault(stream, {}), self._ease(stream)
        for depth, confidence in enumerate(confidences[: accepted + 1]):
            kinds = [(drafter, "depth", depth), _sure(drafter, confidence)]
            if depth:
                kinds.append(_after(drafter, confidences[depth - 1]))
            for kind in kinds:
                of_own = own.setdefault(kind, Record())
                weight = TEXT_GUESSES / (TEXT_GUESSES + of_own.total)
                for texts in _heard(kind, ease):
                    of_all = self.general.setdefault((kind, texts), Record())
                    of_all.observe(depth < accepted, DECAY_OF_ALL, weight)
                of_own.observe(depth < accepted, DECAY)

    def is_proven(self, drafter: str, stream: int) -> bool:
        """Whether two guesses in a row have been right in this text."""
        second = self._streams.get(stream, NOTHING).get((drafter, "depth", 1))
        return second is not None and second.right > 0

    def expected(self, drafter: str, stream: int, length: int) -> tuple[float, ...]:
        """Of up to `length` guesses that are not made yet, as far as they may be reached at all; a
        depth that was seldom reached is judged by the one before it."""
        chances: list[float] = []
        chance, reach = FIRST_CHANCE, 1.0
        for depth in range(length):
            chance = self._chance(stream, (drafter, "depth", depth), chance)
            chances.append(chance)
            reach *= chance
            if reach < UNLIKELY:
                break
        return tuple(chances)

    def after(self, drafter: str, stream: int, confidence: float, prior: float) -> float:
        """Of a guess that is not made yet, after one of which it is known how sure it is."""
        return self._chance(stream, _after(drafter, confidence), prior)

    def judged(self, drafter: str, stream: int, confidence: float) -> float:
        """Of a guess whose confidence is known."""
        return self._chance(stream, _sure(drafter, confidence), confidence)

    def _chance(self, stream: int, kind: Kind, prior: float) -> float:
        """What is believed of a stream's guesses of that kind."""
        chance = prior
        for texts in _heard(kind, self._ease(stream)):
            if record := self.general.get((kind, texts)):
                chance = record.chance(chance)
        own = self._streams.get(stream, NOTHING).get(kind)
        return own.chance(chance) if own else chance

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._target_confidence.pop(stream, None)


def _heard(kind: Kind, ease: int) -> tuple[int, ...]:
    """What texts have a say, the last word last."""
    return (ease,) if kind[1] == "depth" else (ANY_EASE, ease)


def _sure(drafter: str, confidence: float) -> Kind:
    return drafter, "sure", _bucket(confidence)


def _after(drafter: str, confidence: float) -> Kind:
    return drafter, "after", _bucket(confidence)


def _bucket(confidence: float) -> int:
    return min(int(confidence * BUCKETS), BUCKETS - 1)
