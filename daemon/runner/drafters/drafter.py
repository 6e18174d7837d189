"""What every drafter can do: guess the next tokens of many streams at once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Protocol

from ..sampling import Row, Sampler
from ..sequence import Sequence

NEWEST = 2  # tokens that a drafter has not seen after a step in which all its guesses were right


@dataclass(frozen=True, slots=True)
class Draft:
    """A guessed token, and how sure the drafter is: a probability between 0 and 1."""

    token: int
    confidence: float


@dataclass(slots=True, eq=False)
class Ask:
    """A stream that wants up to `length` guesses; all its tokens but the last are evaluated."""

    sequence: Sequence
    sampler: Sampler  # the stream's own, so that drafter and target draw with the same noise
    length: int
    drafts: list[Draft] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """The guesses so far."""
        return [draft.token for draft in self.drafts]

    def guess(self, logits: Row) -> Draft:
        """Add the token that the stream would draw from this row, if it were the target's."""
        seq = self.sequence
        history = [*seq.tokens, *self.tokens]
        guessed = self.sampler.guess(logits, history, seq.position + len(self.drafts))
        self.drafts.append(Draft(*guessed))
        return self.drafts[-1]


@dataclass(frozen=True, slots=True)
class Call:
    """A decode of the drafter."""

    rows: int
    took_s: float
    catches_up: bool = False  # most rows are texts that it had not followed


GoOn = Callable[[Ask], bool]  # whether one more guess would still pay, asked after each


def always(_ask: Ask) -> bool:
    """Go on, whatever was guessed."""
    return True


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

    def pending(self, sequence: Sequence) -> int:
        """Tokens of the text, at least the newest, that its first decode has to take in."""
        ...

    def draft(self, asks: Seq[Ask], go_on: GoOn) -> list[Call]:
        """Append guesses to the asks, one decode for each depth, all streams together; those
        decodes, and before them what it took to catch up."""
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
