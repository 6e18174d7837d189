"""How a text goes on, judged by how it went on before: lookup in prompt and answer, no weights."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ....protocol import MAX_DRAFTS
from ...sequence import Sequence
from .drafter import Draft, DraftForward, DraftRequest, SelectNext

SIZES = (3, 5, 8)  # tokens that must be the same; the longer, the surer
COPY_FACTOR = 2  # tokens that are guessed for each that was the same
LENGTHS = (5, 8, 12, 16)  # of what is the same; for each more, until experience says more, ...
CONFIDENCES = (0.4, 0.6, 0.7, 0.8, 0.95)  # ... the next token is likelier to be the same, too


@dataclass(slots=True)
class NgramIndex:
    """Where each run of tokens was last followed by another one."""

    places: dict[bytes, int] = field(default_factory=dict)  # by the tokens of a run
    count: int = 0  # tokens that were taken in

    def take_in(self, tokens: array[int]) -> None:
        """The tokens since the last call. The run that ends the text is not followed yet."""
        if len(tokens) < self.count:  # the middle was forgotten
            self.places, self.count = {}, 0
        for size in SIZES:
            for end in range(max(self.count, size), len(tokens)):
                self.places[tokens[end - size : end].tobytes()] = end
        self.count = len(tokens)

    def find(self, tokens: array[int]) -> int:
        """The place after the last run like the one that ends the text; 0 if there is none. Of the
        longest run, which is only there if the shorter ones are."""
        found = 0
        for size in SIZES:
            place = self.places.get(tokens[len(tokens) - size :].tobytes())
            if not place:
                break
            found = place
        return found


def _num_same(tokens: array[int], place: int) -> int:
    """How many tokens before a place are those that end the text, as far as that matters."""
    last = len(tokens) - 1
    most = min(place, MAX_DRAFTS // COPY_FACTOR)
    return next((i for i in range(most) if tokens[place - 1 - i] != tokens[last - i]), most)


class NgramDrafter:
    """Remembers the texts that run now; each learns from itself alone."""

    name = "ngram"
    max_length = MAX_DRAFTS
    is_free = True
    can_evaluate = False

    def __init__(self) -> None:
        self._indexes: dict[int, NgramIndex] = {}

    def pending(self, sequence: Sequence) -> int:
        return 0

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        for request in requests:
            tokens = request.sequence.tokens
            if (index := self._indexes.get(request.sequence.id)) is None:
                index = self._indexes[request.sequence.id] = NgramIndex()
            index.take_in(tokens)
            if place := index.find(tokens):
                self._copy(request, place)
        return []

    def _copy(self, request: DraftRequest, place: int) -> None:
        """What followed; a run that overlaps the end of the text repeats itself. What has been the
        same for long is copied for longer; if a guess is right, it has been so for one more."""
        tokens = request.sequence.tokens
        period, same = len(tokens) - place, _num_same(tokens, place)
        for i in range(min(request.length, COPY_FACTOR * same)):
            confidence = CONFIDENCES[bisect_right(LENGTHS, same + i)]
            request.drafts.append(Draft(tokens[place + i % period], confidence))

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        return []

    def observe(self, sequence: Sequence, rows: range, *, is_tip: bool) -> None:
        """Reads the text itself when it is asked."""

    def forget(self, sequence: Sequence) -> None:
        self._indexes.pop(sequence.id, None)

    def close(self) -> None:
        """Has loaded nothing."""
