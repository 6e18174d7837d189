"""How far to draft: the lengths of all streams together that have the highest goodput.

Goodput is the expected number of accepted tokens of the whole batch by the time that drafting and
verifying take. Nothing is assumed about the machine: every figure comes from the steps themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from .step_cost import StepCost

SIZES = frozenset((*range(9), 10, 12, 14, *range(16, 32, 4), *range(32, 1025, 8)))
"""Guesses of a step, all streams together: of few sizes, so that graph shapes recur (GUIDE 6.4)."""
MIN_GAIN = 1.02  # expected at least of a draft, so that noise does not start one
PATIENCE = 1  # decodes of the drafter that may seem not to help, before one that does
ROW_LOOKAHEAD = 8  # rows more of the target that are thought of while guesses are made


@dataclass(frozen=True, slots=True)
class StreamCandidate:
    """What one stream could be given: the chance of each guess, given those before it."""

    rates: tuple[float, ...]
    drafted: int = 0  # of these guesses that are there already
    rows: int = 1  # of the drafter's next decode for it
    token_s: float = 0.0  # of catching up with the text, shared out to the tokens it will pay for

    @property
    def cumulative(self) -> tuple[float, ...]:
        """The chance that a guess and all before it are right, by depth."""
        return tuple(accumulate(self.rates, operator.mul))


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """What a step takes here, and what is in it anyhow."""

    verify: StepCost  # by rows of the target
    draft: StepCost  # by rows of the drafter; not asked if all guesses are there already
    streams: int  # that each get a token
    rows: int  # without guesses
    starting: float = 0.0  # first tokens that others get; they wait for the guesses, too
    spent_s: float = 0.0  # on the guesses that are there
    leave_s: float = 0.0  # that later steps without guesses take longer, after one with them
    is_even: bool = False  # whether all streams must be given as many guesses

    @property
    def goodput(self) -> float:
        """Tokens a second without guesses."""
        return self.tokens / (self.verify.seconds(self.rows) + self.spent_s)

    @property
    def tokens(self) -> float:
        """Of a step without guesses."""
        return self.streams + self.starting


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """How far each stream is drafted, and the tokens a second that are expected of that."""

    lengths: list[int]
    goodput: float


class TokenCandidate(NamedTuple):
    """A guess that could be verified; sorted, the likeliest come first, and none before the one
    that it follows. (Made by the hundred, which takes a dataclass three times as long.)"""

    unlikely: float  # minus the chance that it and all before it are right
    depth: int
    stream: int
    layer: int  # of the drafter's decodes from now on; 0: it is there


def choose(candidates: Sequence[StreamCandidate], costs: RoundCosts) -> DraftPlan:
    """Draft lengths of all streams together, those of the highest expected goodput.

    For so many decodes of the drafter after the other: guesses are added in the order of their
    chance, and the best number of them wins. One decode more is thought of for as long as it helps.
    """
    best, missed = DraftPlan([0] * len(candidates), costs.goodput), 0
    if not any(candidate.rates for candidate in candidates):
        return best
    goal, batch = MIN_GAIN * costs.goodput, GoodputSearch(candidates, costs)
    for layers in range(1 + batch.layers):
        plan = batch.fill(layers)
        if plan.goodput > goal:
            goal, best, missed = plan.goodput, plan, 0
        elif layers and (missed := missed + 1) > PATIENCE:
            break
    return best


class GoodputSearch:
    """The guesses that could be verified, likeliest first, and what each adds to a step."""

    def __init__(self, candidates: Sequence[StreamCandidate], costs: RoundCosts) -> None:
        tokens_ = [
            TokenCandidate(-cumulative, depth, i, max(depth - candidate.drafted + 1, 0))
            for i, candidate in enumerate(candidates)
            for depth, cumulative in enumerate(candidate.cumulative)
        ]
        by_depth = operator.attrgetter("depth", "stream")
        tokens_.sort(key=by_depth if costs.is_even else None)
        self.layers = max(token.layer for token in tokens_)
        self._candidates = candidates
        self._costs = costs
        self._adding = list(zip(tokens_, self._drafting_s(tokens_), strict=True))
        self._verify_s = costs.verify.table(costs.rows + len(tokens_))[costs.rows :]

    def _drafting_s(self, tokens_: Sequence[TokenCandidate]) -> list[float]:
        """What each adds to the decodes of the drafter, if those before it in its layer are in."""
        if not self.layers:
            return [0.0] * len(tokens_)
        candidates = self._candidates
        most = sum(
            candidate.rows for candidate in candidates if candidate.drafted < len(candidate.rates)
        )
        draft_s = self._costs.draft.table(most)
        rows_by_layer = [0] * (self.layers + 1)  # rows of the drafter by layer
        added_s: list[float] = []
        for unlikely, _, stream, layer in tokens_:
            if not layer:
                added_s.append(0.0)
                continue
            before, candidate = rows_by_layer[layer], candidates[stream]
            rows_by_layer[layer] += candidate.rows if layer == 1 else 1
            prefill_s = candidate.token_s * ((layer == 1) - unlikely)
            added_s.append(draft_s[rows_by_layer[layer]] - draft_s[before] + prefill_s)
        return added_s

    def fill(self, layers: int) -> DraftPlan:
        """The best number of guesses, added one after the other, where the drafter makes so many
        decodes."""
        costs = self._costs
        adding = [each for each in self._adding if each[0].layer <= layers]
        tokens, goodputs = costs.tokens, [costs.goodput]
        took_s = costs.spent_s + costs.leave_s
        for (token, added_s), verify_s in zip(adding, self._verify_s[1:], strict=False):
            tokens -= token.unlikely
            took_s += added_s
            goodputs.append(tokens / (verify_s + took_s))
        count = max(self._counts(layers, len(adding)), key=goodputs.__getitem__, default=0)
        lengths = [0] * len(self._candidates)
        for token, _ in adding[:count]:
            lengths[token.stream] = token.depth + 1
        return DraftPlan(lengths, goodputs[count])

    def _counts(self, layers: int, most: int) -> Iterable[int]:
        """Numbers of guesses that may be chosen. Where none of them has to be made, that is the
        number of the rows."""
        if self._costs.is_even:
            depth = min(min(len(o.rates), o.drafted + layers) for o in self._candidates)
            return range(
                len(self._candidates), depth * len(self._candidates) + 1, len(self._candidates)
            )
        counts = range(1, most + 1)
        return counts if layers else (count for count in counts if count in SIZES)


def num_worth(cumulative: Sequence[float], drafted: int, plan: DraftPlan, costs: RoundCosts) -> int:
    """Of how many streams one more guess is worth a decode of the drafter, while a plan is carried
    out. `cumulative`: the chances of these guesses, best first; so many others are `drafted`
    already.

    Time is worth what the plan expects to make of it. A row of the target costs what it does on
    average up to the cheapest of the next `ROW_LOOKAHEAD`: single rows may be dear, and those after
    them for nothing.
    """
    rows = costs.rows + drafted
    verify_s = costs.verify.table(rows + ROW_LOOKAHEAD)[rows:]
    row_s = min(
        max(verify_s[more] - verify_s[0], 0.0) / more for more in range(1, 1 + ROW_LOOKAHEAD)
    )
    draft_s = costs.draft.table(len(cumulative))
    tokens, most, best = 0.0, 0.0, 0
    for count, rate in enumerate(cumulative, 1):
        tokens += rate
        profit = tokens - plan.goodput * (draft_s[count] + count * row_s)
        if profit > most and (not costs.is_even or count == len(cumulative)):
            most, best = profit, count
    return best


def better(one: StreamCandidate, other: StreamCandidate, costs: RoundCosts) -> StreamCandidate:
    """The one that brings more tokens for its time, if all streams did the same; if neither does,
    `one`."""
    return other if _profit(other, costs) > _profit(one, costs) else one


def _profit(candidate: StreamCandidate, costs: RoundCosts) -> float:
    """Tokens a step and stream beyond those that the same time brings without guesses."""
    streams, rows, is_drafted = (
        costs.streams,
        candidate.rows,
        candidate.drafted >= len(candidate.rates),
    )
    plain_s, goodput = costs.verify.seconds(costs.rows), costs.goodput
    first_s, next_s = (
        (0.0, 0.0)
        if is_drafted
        else (costs.draft.seconds(streams * rows), costs.draft.seconds(streams))
    )
    tokens, drafting_s, most = 0.0, costs.leave_s + first_s + streams * candidate.token_s, 0.0
    for depth, rate in enumerate(candidate.cumulative, 1):
        tokens += rate
        drafting_s += streams * candidate.token_s * rate
        took_s = costs.verify.seconds(costs.rows + streams * depth) - plain_s + drafting_s
        most = max(most, tokens - goodput * took_s / streams)
        drafting_s += next_s
    return most
