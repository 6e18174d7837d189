"""Which of the drafted tokens equal the tokens that the target samples?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..sampling.truncation import Row
from ..stream import Stream


@dataclass(frozen=True, slots=True)
class AcceptResult:
    """Number of accepted draft tokens, and why the stream ends; "" if it goes on."""

    accepted: int
    reason: str


def accept(stream: Stream, drafts: Sequence[int], row: Callable[[int], Row]) -> AcceptResult:
    """Sample from one row after the other, up to the first draft token that differs.

    `row(0)` are the logits after the last token of the stream, `row(i)` those after draft i - 1.
    Every token is sampled from the target's own logits with the Gumbel noise of its position, so
    the text does not depend on the drafts (GUIDE 3.2).
    """
    for i in range(len(drafts) + 1):
        reason = stream.sample(row(i))
        if reason or i == len(drafts) or stream.sequence.tokens[-1] != drafts[i]:
            break
    return AcceptResult(i, reason)
