"""What every drafter can do: guess the next tokens of many streams at once."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from ...sampling.sampler import Sampler
from ...sampling.truncation import Row
from ...sequence import Sequence

MAX_UNSEEN = (
    2  # tokens that a drafter has not seen after a step in which all its guesses were right
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A guessed token, and how sure the drafter is: a probability between 0 and 1."""

    token: int
    confidence: float


@dataclass(slots=True, eq=False)
class DraftRequest:
    """A stream that wants up to `length` guesses; all its tokens but the last are evaluated."""

    sequence: Sequence
    sampler: Sampler  # the stream's own, so that drafter and target draw with the same noise
    length: int
    drafts: list[Draft] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """The guesses so far."""
        return [draft.token for draft in self.drafts]

    def num_accepted(self, truth: Seq[int]) -> int:
        """How many of its first guesses are the tokens with which the text went on."""
        pairs = zip(self.tokens, truth, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def append(self, logits: Row) -> None:
        """Add the token that the stream would draw from this row, if it were the target's."""
        seq = self.sequence
        history = seq.tokens + array("i", self.tokens)
        position = seq.position + len(self.drafts)
        self.drafts.append(Draft(*self.sampler.sample_draft(logits, history, position)))

    def evaluate_at(self, logits: Row, back: int) -> None:
        """Add what would have been guessed for a token of the text, the last but `back`."""
        seq = self.sequence
        history = seq.tokens[: len(seq.tokens) - 1 - back]
        self.drafts.append(
            Draft(*self.sampler.sample_draft(logits, history, seq.position - 1 - back))
        )


@dataclass(frozen=True, slots=True)
class DraftForward:
    """A decode of the drafter."""

    rows: int
    took_s: float
    is_prefill: bool = False  # most rows are texts that it had not followed


SelectNext = Callable[
    [Seq[DraftRequest]], Seq[DraftRequest]
]  # those of them that want one more guess, asked after each


def select_unfinished(requests: Seq[DraftRequest]) -> Seq[DraftRequest]:
    """Go on, whatever was guessed."""
    return [request for request in requests if len(request.drafts) < request.length]


class Drafter(Protocol):
    """One kind of reading ahead. All calls come from the engine's thread."""

    @property
    def name(self) -> str:
        """As metrics and `ps` call it."""
        ...

    @property
    def max_length(self) -> int:
        """Guesses at most, for one stream and step."""
        ...

    @property
    def is_free(self) -> bool:
        """Whether guessing takes no decode, so that it costs next to nothing."""
        ...

    @property
    def can_evaluate(self) -> bool:
        """Whether `evaluate` is worth it: a draft costs much more than to read a token."""
        ...

    def pending(self, sequence: Sequence) -> int:
        """Tokens of the text, at least the newest, that its first decode has to take in."""
        ...

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        """Append guesses to the asks, one decode for each depth, all streams together; those
        decodes, and before them what it took to catch up."""
        ...

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        """Take in the text but for its newest token, and append what would have been guessed for
        its last tokens, as many as `ask.length` at most."""
        ...

    def observe(self, sequence: Sequence, rows: range, *, is_tip: bool) -> None:
        """These rows of the target's last decode are the newest tokens of this sequence that are
        evaluated. `is_tip`: its last token was drawn from the last of them. Called before the next
        decode."""
        ...

    def forget(self, sequence: Sequence) -> None:
        """The sequence is over, or starts again."""
        ...

    def close(self) -> None:
        """Free what was loaded for it; before its target is freed."""
        ...
