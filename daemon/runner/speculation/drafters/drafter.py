"""What does every drafter provide? Draft tokens for many streams at once."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from ...sampling.sampler import Sampler
from ...sampling.truncation import Row
from ...sequence import Sequence

MAX_UNSEEN = 2
"""Tokens that a drafter has not evaluated after a step in which all its draft tokens were accepted:
its last one, and the one that the target added."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft token, and the drafter's confidence in it: a probability between 0 and 1."""

    token: int
    confidence: float


NO_CONFIDENCE = 1e-6  # above zero, as the share of any token is


@dataclass(slots=True, eq=False)
class DraftRequest:
    """Up to `length` draft tokens for a stream of which all tokens but the last are evaluated."""

    sequence: Sequence
    sampler: Sampler  # the stream's own, so that drafter and target sample with the same noise
    length: int
    drafts: list[Draft] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """The draft tokens so far."""
        return [draft.token for draft in self.drafts]

    def num_accepted(self, truth: Seq[int]) -> int:
        """How many of the first draft tokens equal the tokens with which the text went on."""
        pairs = zip(self.tokens, truth, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def append(self, logits: Row) -> None:
        """Add the token that the stream would sample from this row, if it were the target's."""
        seq = self.sequence
        history = seq.tokens + array("i", self.tokens)
        self._append(logits, history, seq.position + len(self.drafts))

    def append_evaluated(self, logits: Row, back: int) -> None:
        """Add the draft for a known token: the last one of the text but `back`."""
        seq = self.sequence
        history = seq.tokens[: len(seq.tokens) - 1 - back]
        self._append(logits, history, seq.position - 1 - back)

    def _append(self, logits: Row, history: array[int], position: int) -> None:
        """A row that is not finite gets a draft in which nobody trusts: the drafter's fault must
        not end a request, and its acceptance rate shows it."""
        try:
            draft = Draft(*self.sampler.sample_draft(logits, history, position))
        except ValueError:
            draft = Draft(history[-1] if history else 0, NO_CONFIDENCE)
        self.drafts.append(draft)


@dataclass(frozen=True, slots=True)
class DraftForward:
    """A decode of the drafter."""

    rows: int
    took_s: float
    is_prefill: bool = False  # most rows are text that the drafter had not evaluated


# Called after each draft forward: which of these requests get one more draft token?
SelectNext = Callable[[Seq[DraftRequest]], Seq[DraftRequest]]


def select_unfinished(requests: Seq[DraftRequest]) -> list[DraftRequest]:
    """Draft up to the requested length."""
    return [request for request in requests if len(request.drafts) < request.length]


class Drafter(Protocol):
    """One kind of drafter; what it need not implement does nothing.

    All calls come from the engine's thread.
    """

    name: str
    """Its name in metrics and `ps`."""
    max_length: int
    """Draft tokens per stream and step, at most."""
    is_free: bool = False
    """Whether drafting takes no decode, so that it costs next to nothing."""
    can_evaluate: bool = False
    """Whether `evaluate` is implemented: prefill must cost much less than drafting."""

    @abstractmethod
    def pending(self, sequence: Sequence) -> int:
        """Tokens of the text, at least the newest, that the next draft has to evaluate first."""

    @abstractmethod
    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        """Append draft tokens to the requests, one decode per depth, all streams together.

        Returns those decodes, and before them those of the prefill.
        """

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        """Teacher-forced evaluation: prefill the text but for its newest token, and append the
        drafts for its last tokens, at most `request.length`."""
        return []

    def observe(self, sequence: Sequence, rows: range, *, is_newest: bool) -> None:
        """These rows of the target's last decode are the newest evaluated tokens of the sequence.

        `is_newest`: the last token of the text was sampled from the last row. Called before the
        target's next decode. Drafters that read the text alone need none of it.
        """
        return

    @abstractmethod
    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended."""

    def set_threads(self, threads: int) -> None:
        """CPU threads of the next decodes."""
        return

    def close(self) -> None:
        """Free the drafter's context, if any; must come before the target is freed."""
        return
