"""How many tokens are drafted and verified for each stream, so that goodput is highest?

Goodput is the expected number of accepted tokens of the whole batch per second of drafting and
verification (as in SmartSpec, Liu et al., 2024). All costs and rates are measured on line.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from .step_cost import StepCost

DRAFT_COUNTS = frozenset((*range(9), 10, 12, 14, *range(16, 32, 4), *range(32, 1025, 8)))
"""Draft tokens of a step, all streams together: few values, so graph shapes recur (GUIDE 6.4)."""
MIN_GAIN = 1.02  # goodput of a draft over that of none, at least, so that noise starts no drafts
MAX_MISSES = 1  # draft forwards in a row that may lower the goodput before the search ends
ROW_LOOKAHEAD = 8
"""Rows of the target over which the cost of one more is averaged while tokens are drafted."""


@dataclass(frozen=True, slots=True)
class StreamCandidate:
    """Draft tokens that one stream could be given."""

    rates: tuple[float, ...]  # acceptance rate by depth, given that all before it are accepted
    drafted: int = 0  # of these tokens, how many are made already
    rows: int = 1  # of the next draft forward for this stream
    token_s: float = 0.0  # drafter prefill, spread over the tokens that the stream still expects

    @property
    def cumulative(self) -> tuple[float, ...]:
        """Cumulative acceptance by depth."""
        return tuple(accumulate(self.rates, operator.mul))


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """What a step costs, and what it contains without drafts."""

    verify: StepCost  # by rows of the target
    draft: StepCost  # by rows of the drafter; unused if all draft tokens are made already
    streams: int  # that get one token each
    rows: int  # of the target
    starting: float = 0.0  # first tokens of other requests, which the drafts delay
    spent_s: float = 0.0  # on drafts that are made already
    return_s: float = 0.0  # transient of later steps without drafts, after a step with some
    equal_rows: bool = False  # whether all streams need equally many rows

    @property
    def goodput(self) -> float:
        """Tokens per second of a step without drafts."""
        return self.tokens / (self.verify.next_s(self.rows) + self.spent_s)

    @property
    def tokens(self) -> float:
        """Tokens of a step without drafts."""
        return self.streams + self.starting


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """Draft length of each stream, and the expected tokens per second."""

    lengths: list[int]
    goodput: float


class TokenCandidate(NamedTuple):
    """A draft token that could be verified.

    Sorted, the highest cumulative acceptance comes first, and no token before the one it follows.
    A NamedTuple, since hundreds are made per step and a dataclass takes three times as long.
    """

    negative: float  # cumulative acceptance, negated
    depth: int
    stream: int  # index of its StreamCandidate
    forward: int  # draft forward that makes it, from 1; 0 if it is made already


def choose_lengths(candidates: Sequence[StreamCandidate], costs: RoundCosts) -> DraftPlan:
    """The draft lengths of all streams together with the highest expected goodput.

    For each number of draft forwards, tokens are added by falling cumulative acceptance, and the
    best number of tokens is taken. The number of forwards grows for as long as that helps.
    """
    best, misses = DraftPlan([0] * len(candidates), costs.goodput), 0
    if not any(candidate.rates for candidate in candidates):
        return best
    goal, search = MIN_GAIN * costs.goodput, GoodputSearch(candidates, costs)
    for forwards in range(1 + search.max_forwards):
        plan = search.plan(forwards)
        if plan.goodput > goal:
            goal, best, misses = plan.goodput, plan, 0
        elif forwards and (misses := misses + 1) > MAX_MISSES:
            break
    return best


class GoodputSearch:
    """The draft tokens that could be verified, in order, and the drafting time of each."""

    def __init__(self, candidates: Sequence[StreamCandidate], costs: RoundCosts) -> None:
        tokens = [
            TokenCandidate(-cumulative, depth, i, max(depth - candidate.drafted + 1, 0))
            for i, candidate in enumerate(candidates)
            for depth, cumulative in enumerate(candidate.cumulative)
        ]
        by_depth = operator.attrgetter("depth", "stream")
        tokens.sort(key=by_depth if costs.equal_rows else None)
        self.max_forwards = max(token.forward for token in tokens)
        self._candidates = candidates
        self._costs = costs
        self._tokens = list(zip(tokens, self._drafting_s(tokens), strict=True))
        self._verify_s = costs.verify.table(costs.rows + len(tokens))[costs.rows :]

    def _drafting_s(self, tokens: Sequence[TokenCandidate]) -> list[float]:
        """Seconds that each token adds to the draft forwards, after those before it."""
        if not self.max_forwards:
            return [0.0] * len(tokens)
        candidates = self._candidates
        max_rows = sum(c.rows for c in candidates if c.drafted < len(c.rates))
        draft_s = self._costs.draft.table(max_rows)
        forward_rows = [0] * (self.max_forwards + 1)
        added_s: list[float] = []
        for negative, _, stream, forward in tokens:
            if not forward:
                added_s.append(0.0)
                continue
            before, candidate = forward_rows[forward], candidates[stream]
            forward_rows[forward] += candidate.rows if forward == 1 else 1
            prefill_s = candidate.token_s * ((forward == 1) - negative)
            added_s.append(draft_s[forward_rows[forward]] - draft_s[before] + prefill_s)
        return added_s

    def plan(self, forwards: int) -> DraftPlan:
        """The best number of tokens, added in order, that so many draft forwards can make."""
        costs = self._costs
        added = [each for each in self._tokens if each[0].forward <= forwards]
        tokens, goodputs = costs.tokens, [costs.goodput]
        took_s = costs.spent_s + costs.return_s
        for (token, added_s), verify_s in zip(added, self._verify_s[1:], strict=False):
            tokens -= token.negative
            took_s += added_s
            goodputs.append(tokens / (verify_s + took_s))
        count = max(self._counts(forwards, len(added)), key=goodputs.__getitem__, default=0)
        lengths = [0] * len(self._candidates)
        for token, _ in added[:count]:
            lengths[token.stream] = token.depth + 1
        return DraftPlan(lengths, goodputs[count])

    def _counts(self, forwards: int, max_count: int) -> Iterable[int]:
        """Numbers of draft tokens that may be chosen: with no draft forward to come, the count is
        final and determines the rows of the target, so it is one of DRAFT_COUNTS."""
        if self._costs.equal_rows:
            streams = len(self._candidates)
            depth = min(min(len(c.rates), c.drafted + forwards) for c in self._candidates)
            return range(streams, depth * streams + 1, streams)
        counts = range(1, max_count + 1)
        return counts if forwards else (count for count in counts if count in DRAFT_COUNTS)


def num_to_extend(
    cumulative: Sequence[float], drafted: int, plan: DraftPlan, costs: RoundCosts
) -> int:
    """The drafter's stopping rule: for how many streams is one more draft forward made?

    `cumulative`: cumulative acceptance of the next token of each stream, falling. `drafted`: draft
    tokens that are made already. Time is valued at the planned goodput. A row of the target costs
    the lowest average over the next 1 to ROW_LOOKAHEAD rows, since one row may be expensive and the
    rows after it cost nothing.
    """
    rows = costs.rows + drafted
    verify_s = costs.verify.table(rows + ROW_LOOKAHEAD)[rows:]
    row_s = min(
        max(verify_s[more] - verify_s[0], 0.0) / more for more in range(1, 1 + ROW_LOOKAHEAD)
    )
    draft_s = costs.draft.table(len(cumulative))
    tokens, highest, best = 0.0, 0.0, 0
    for count, acceptance in enumerate(cumulative, 1):
        tokens += acceptance
        surplus = tokens - plan.goodput * (draft_s[count] + count * row_s)
        if surplus > highest and (not costs.equal_rows or count == len(cumulative)):
            highest, best = surplus, count
    return best


def better_candidate(
    one: StreamCandidate, other: StreamCandidate, costs: RoundCosts
) -> StreamCandidate:
    """The candidate with the larger surplus of tokens, if all streams had the same; `one` if they
    are equal."""
    return other if _surplus(other, costs) > _surplus(one, costs) else one


def _surplus(candidate: StreamCandidate, costs: RoundCosts) -> float:
    """Tokens per step and stream beyond those of the same time without drafts."""
    streams, rows = costs.streams, candidate.rows
    first_s = next_s = 0.0
    if candidate.drafted < len(candidate.rates):
        first_s, next_s = costs.draft.next_s(streams * rows), costs.draft.next_s(streams)
    plain_s, goodput = costs.verify.next_s(costs.rows), costs.goodput
    drafting_s = costs.return_s + first_s + streams * candidate.token_s
    tokens, highest = 0.0, 0.0
    for depth, acceptance in enumerate(candidate.cumulative, 1):
        tokens += acceptance
        drafting_s += streams * candidate.token_s * acceptance
        took_s = costs.verify.next_s(costs.rows + streams * depth) - plain_s + drafting_s
        highest = max(highest, tokens - goodput * took_s / streams)
        drafting_s += next_s
    return highest
