"""How often guesses are right: by drafter, by depth, by how sure the drafter was, by stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DECAY = 0.97  # of what is known about acceptance of a stream, by guess, ...
DECAY_OF_ALL = 0.99  # ... and of all streams
PRIOR_GUESSES = 16.0  # that what is believed at first, or known of others, counts for
FIRST_CHANCE = 0.9  # of a guess of which nothing is known, so that it is tried
UNLIKELY = 0.05  # chance of being reached below which a guess is not thought of
BUCKETS = 8  # of a drafter's confidence
EASE = (0.6, 0.75)  # how sure the target is of its own tokens, where texts are told apart
EASE_MEMORY = 0.2  # weight of the newest token in that


@dataclass(slots=True)
class Record:
    """How often something was right; old guesses count less and less."""

    right: float = 0.0
    total: float = 0.0

    def observe(self, is_right: bool, decay: float) -> None:
        self.right = decay * self.right + is_right
        self.total = decay * self.total + 1

    def chance(self, prior: float) -> float:
        return (self.right + PRIOR_GUESSES * prior) / (self.total + PRIOR_GUESSES)


# What a guess is like: (drafter, "depth", its depth, ease of the text),
# (drafter, "sure", bucket of its confidence, 0), (drafter, "after", that of the one before it, 0)
Kind = tuple[str, str, int, int]
OwnKind = tuple[str, str, int]  # the same in one text, which is of one ease
NOTHING: Mapping[OwnKind, Record] = {}  # is known of a text yet


class Acceptance:
    """How likely a guess is right, if those before it were.

    A stream's own record is drawn towards what all streams have seen of such guesses. Before any is
    made, how sure the target is of its own tokens tells how hard a text is to guess, for nothing.
    """

    def __init__(self, general: dict[Kind, Record] | None = None) -> None:
        self.general = general or {}  # of all streams
        self._streams: dict[int, dict[OwnKind, Record]] = {}
        self._sureness: dict[int, float] = {}  # of the target, by stream

    def observe_target(self, stream: int, sureness: float) -> None:
        """How sure the target was of its newest token: a probability."""
        before = self._sureness.get(stream, sureness)
        self._sureness[stream] = before + EASE_MEMORY * (sureness - before)

    def _ease(self, stream: int) -> int:
        sureness = self._sureness.get(stream)
        return -1 if sureness is None else bisect_right(EASE, sureness)

    def observe(
        self, drafter: str, stream: int, confidences: Sequence[float], accepted: int
    ) -> None:
        """The first `accepted` guesses were right; the next one, if any, was wrong."""
        own, ease = self._streams.setdefault(stream, {}), self._ease(stream)
        for depth, confidence in enumerate(confidences[: accepted + 1]):
            kinds = [(drafter, "depth", depth, ease), _sure(drafter, confidence)]
            if depth:
                kinds.append(_after(drafter, confidences[depth - 1]))
            for kind in kinds:
                of_all = self.general.setdefault(kind, Record())
                of_all.observe(depth < accepted, DECAY_OF_ALL)
                own.setdefault(kind[:3], Record()).observe(depth < accepted, DECAY)

    def expected(self, drafter: str, stream: int, length: int) -> tuple[float, ...]:
        """Of up to `length` guesses that are not made yet, as far as they may be reached at all; a
        depth that was seldom reached is judged by the one before it."""
        chances: list[float] = []
        chance, reach, ease = FIRST_CHANCE, 1.0, self._ease(stream)
        for depth in range(length):
            chance = self._chance(stream, (drafter, "depth", depth, ease), chance)
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
        """What is believed of a stream's guesses of that kind; texts that are hard to guess and
        those that are not tell each other nothing, but a stream is one text."""
        of_all = self.general.get(kind)
        chance = of_all.chance(prior) if of_all else prior
        own = self._streams.get(stream, NOTHING).get(kind[:3])
        return own.chance(chance) if own else chance

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._sureness.pop(stream, None)


def _sure(drafter: str, confidence: float) -> Kind:
    return drafter, "sure", _bucket(confidence), 0


def _after(drafter: str, confidence: float) -> Kind:
    return drafter, "after", _bucket(confidence), 0


def _bucket(confidence: float) -> int:
    return min(int(confidence * BUCKETS), BUCKETS - 1)
