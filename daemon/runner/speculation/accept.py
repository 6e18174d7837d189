"""Which of the drafted tokens are what the target itself says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..sampling.truncation import Row
from ..stream import Stream


@dataclass(frozen=True, slots=True)
class AcceptResult:
    """How many drafts were right, and why the stream ends; "" if it goes on."""

    accepted: int
    reason: str


def accept(stream: Stream, drafts: Sequence[int], row: Callable[[int], Row]) -> AcceptResult:
    """Draw from one row after the other for as long as the draft says the same.

    `row(0)` are the logits after the last token of the stream, `row(i)` those after draft i - 1.
    Every token is drawn from the target's own logits, with the noise of its place in the text: the
    text is the same whatever was drafted (GUIDE 3.2).
    """
    for i in range(len(drafts) + 1):
        reason = stream.sample(row(i))
        if reason or i == len(drafts) or stream.sequence.tokens[-1] != drafts[i]:
            break
    return AcceptResult(i, reason)
