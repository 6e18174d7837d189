"""N-gram lookup in prompt and answer: copies what followed the last equal n-gram; no weights."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ....protocol import MAX_DRAFTS
from ...sequence import Sequence
from .drafter import Draft, Drafter, DraftForward, DraftRequest, SelectNext

NGRAM_SIZES = (3, 5, 8)  # tokens of an n-gram; the longest one that occurred before is used
COPY_FACTOR = 2  # draft tokens per token of the match, at most
MATCH_LENGTHS = (5, 8, 12, 16)
"""Tokens of a match from which on the next of MATCH_CONFIDENCES applies."""
MATCH_CONFIDENCES = (0.4, 0.6, 0.7, 0.8, 0.95)
"""Prior acceptance rate of a draft token by the match before it, until records outweigh it; set by
hand, checked by tests/sim."""


@dataclass(slots=True)
class NgramIndex:
    """Where each n-gram of a text was last followed by another token."""

    ends: dict[bytes, int] = field(default_factory=dict)  # position after an n-gram, by its tokens
    count: int = 0  # tokens that are indexed

    def extend(self, tokens: array[int]) -> None:
        """Index the tokens since the last call, but for the n-grams that end the text."""
        if len(tokens) < self.count:  # the context was shifted
            self.ends, self.count = {}, 0
        for size in NGRAM_SIZES:
            for end in range(max(self.count, size), len(tokens)):
                self.ends[tokens[end - size : end].tobytes()] = end
        self.count = len(tokens)

    def find(self, tokens: array[int]) -> int:
        """The position after the last n-gram equal to the one that ends the text; 0 if there is
        none. A long n-gram is only indexed if the shorter ones are."""
        found = 0
        for size in NGRAM_SIZES:
            end = self.ends.get(tokens[len(tokens) - size :].tobytes())
            if not end:
                break
            found = end
        return found


def _match_length(tokens: array[int], end: int) -> int:
    """How many tokens before a position equal those that end the text, up to MAX_DRAFTS /
    COPY_FACTOR."""
    last = len(tokens) - 1
    longest = min(end, MAX_DRAFTS // COPY_FACTOR)
    return next((i for i in range(longest) if tokens[end - 1 - i] != tokens[last - i]), longest)


class NgramDrafter(Drafter):
    """Indexes the texts of the running streams, each on its own."""

    name = "ngram"
    max_length = MAX_DRAFTS
    is_free = True

    def __init__(self) -> None:
        self._indexes: dict[int, NgramIndex] = {}  # by id

    def pending(self, sequence: Sequence) -> int:
        return 0

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        for request in requests:
            tokens = request.sequence.tokens
            if (index := self._indexes.get(request.sequence.id)) is None:
                index = self._indexes[request.sequence.id] = NgramIndex()
            index.extend(tokens)
            if end := index.find(tokens):
                self._copy(request, end)
        return []

    def _copy(self, request: DraftRequest, end: int) -> None:
        """Draft the tokens from `end` on, at most COPY_FACTOR times the match.

        A match that overlaps the end of the text repeats itself. If a draft token is accepted, the
        match before the next one is a token longer.
        """
        tokens = request.sequence.tokens
        period, match = len(tokens) - end, _match_length(tokens, end)
        for i in range(min(request.length, COPY_FACTOR * match)):
            confidence = MATCH_CONFIDENCES[bisect_right(MATCH_LENGTHS, match + i)]
            request.drafts.append(Draft(tokens[end + i % period], confidence))

    def forget(self, sequence: Sequence) -> None:
        self._indexes.pop(sequence.id, None)
