"""How far to draft: the lengths of all streams together that have the highest goodput.

Goodput is the expected number of accepted tokens of the whole batch by the time that drafting and
verifying take. Nothing is assumed about the machine: every figure comes from the steps themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from .curve import Curve

SIZES = frozenset((*range(9), 10, 12, 14, *range(16, 32, 4), *range(32, 1025, 8)))
"""Guesses of a step, all streams together: of few sizes, so that graph shapes recur (guide 6.4)."""
GAIN = 1.015  # expected at least of a draft, so that noise does not start one
PATIENCE = 1  # decodes of the drafter that may seem not to help, before one that does
SHARE = 0.01  # of the time may be lost by reading ahead, ...
STEPS = 2.0  # ... and what so many steps take, where expectations are not met
DEBTS = 5.0  # times that, which one try may cost; a larger debt is forgiven


@dataclass(frozen=True, slots=True)
class Option:
    """What one stream could be given: the chance of each guess, given those before it."""

    chances: tuple[float, ...]
    drafted: int = 0  # of these guesses that are there already
    rows: int = 1  # of the drafter's next decode for it
    token_s: float = 0.0  # of catching up with the text, shared out to the tokens it will pay for

    @property
    def reach(self) -> tuple[float, ...]:
        """The chance that a guess and all before it are right, by depth."""
        return tuple(accumulate(self.chances, operator.mul))


@dataclass(frozen=True, slots=True)
class Costs:
    """What a step takes here, and what is in it anyhow."""

    verify: Curve  # by rows of the target
    draft: Curve  # by rows of the drafter; not asked if all guesses are there already
    streams: int  # that each get a token
    rows: int  # without guesses
    spent_s: float = 0.0  # on the guesses that are there
    is_even: bool = False  # whether all streams must be given as many guesses

    @property
    def goodput(self) -> float:
        """Tokens a second without guesses."""
        return self.streams / (self.verify.seconds(self.rows) + self.spent_s)


@dataclass(frozen=True, slots=True)
class Plan:
    """How far each stream is drafted, and the tokens a second that are expected of that."""

    lengths: list[int]
    goodput: float


class Candidate(NamedTuple):
    """A guess that could be verified; sorted, the likeliest come first, and none before the one
    that it follows. (Made by the hundred, which takes a dataclass three times as long.)"""

    unlikely: float  # minus the chance that it and all before it are right
    depth: int
    stream: int
    layer: int  # of the drafter's decodes from now on; 0: it is there


def choose(options: Sequence[Option], costs: Costs) -> Plan:
    """Draft lengths of all streams together, those of the highest expected goodput.

    For so many decodes of the drafter after the other: guesses are added in the order of their
    chance, and the best number of them wins. One decode more is thought of for as long as it helps.
    """
    candidates = [
        Candidate(-reach, depth, i, max(depth - option.drafted + 1, 0))
        for i, option in enumerate(options)
        for depth, reach in enumerate(option.reach)
    ]
    by_depth = operator.attrgetter("depth", "stream")
    candidates.sort(key=by_depth if costs.is_even else None)
    best, missed = Plan([0] * len(options), costs.goodput), 0
    most = max((c.layer for c in candidates), default=0)
    goal, batch = GAIN * costs.goodput, Batch(options, costs, len(candidates), most)
    for layers in range(1 + most):
        plan = batch.fill([c for c in candidates if c.layer <= layers], is_final=layers == 0)
        if plan.goodput > goal:
            goal, best, missed = plan.goodput, plan, 0
        elif layers and (missed := missed + 1) > PATIENCE:
            break
    return best


class Batch:
    """The batch that is to be filled, and what it costs by what is in it."""

    def __init__(
        self, options: Sequence[Option], costs: Costs, candidates: int, layers: int
    ) -> None:
        """So many guesses at most, by so many decodes of the drafter."""
        asked = sum(option.rows for option in options if option.drafted < len(option.chances))
        self._options = options
        self._costs = costs
        self._verify_s = costs.verify.table(costs.rows + candidates)[costs.rows :]
        self._layers = layers
        self._draft_s = costs.draft.table(asked) if asked else []

    def fill(self, candidates: Sequence[Candidate], *, is_final: bool) -> Plan:
        """The best number of these guesses, added one after the other. `is_final`: none of them has
        to be made, so their number is that of the rows."""
        costs, options, draft_s = self._costs, self._options, self._draft_s
        asking = [0] * (self._layers + 1)  # rows of the drafter by layer
        lengths, tokens, drafting_s = [0] * len(options), float(costs.streams), costs.spent_s
        best = Plan(lengths[:], 0.0)
        for added, (unlikely, depth, stream, layer) in enumerate(candidates, 1):
            tokens -= unlikely
            lengths[stream] = depth + 1
            if layer:
                before, option = asking[layer], options[stream]
                asking[layer] += option.rows if layer == 1 else 1
                drafting_s += draft_s[asking[layer]] - draft_s[before]
                drafting_s += option.token_s * ((layer == 1) - unlikely)
            goodput = tokens / (self._verify_s[added] + drafting_s)
            if goodput <= best.goodput or (costs.is_even and len(set(lengths)) > 1):
                continue
            if not is_final or costs.is_even or added in SIZES:
                best = Plan(lengths[:], goodput)
        return best


def num_worth(reach: Sequence[float], plan: Plan, costs: Costs) -> int:
    """Of how many streams one more guess is worth a decode of the drafter, while a plan is carried
    out. `reach`: the chances of these guesses, best first.

    Time is worth what the plan expects to make of it. A row of the target costs what the rows of
    the plan do on average: single rows may be dear, and the next ones for nothing.
    """
    rows = max(sum(plan.lengths), 1)
    verify_s = costs.verify.table(costs.rows + rows)
    row_s = (verify_s[-1] - verify_s[costs.rows]) / rows
    draft_s = costs.draft.table(len(reach))
    tokens, most, best = 0.0, 0.0, 0
    for count, chance in enumerate(reach, 1):
        tokens += chance
        profit = tokens - plan.goodput * (draft_s[count] + count * row_s)
        if profit > most and (not costs.is_even or count == len(reach)):
            most, best = profit, count
    return best


def better(one: Option, other: Option, costs: Costs) -> Option:
    """The one that brings more tokens for its time, if all streams did the same; if neither does,
    `one`."""
    return other if _profit(other, costs) > _profit(one, costs) else one


def _profit(option: Option, costs: Costs) -> float:
    """Tokens a step and stream beyond those that the same time brings without guesses."""
    streams, length, rows = costs.streams, len(option.chances), option.rows
    is_drafted = option.drafted >= length
    verify_s = costs.verify.table(costs.rows + streams * length)[costs.rows :: streams]
    draft_s = [0.0] if is_drafted else costs.draft.table(streams * rows)
    tokens, drafting_s, most = 0.0, draft_s[-1] + streams * option.token_s, 0.0
    for depth, chance in enumerate(option.reach, 1):
        tokens += chance
        drafting_s += streams * option.token_s * chance
        took_s = verify_s[depth] - verify_s[0] + drafting_s
        most = max(most, tokens - costs.goodput * took_s / streams)
        drafting_s += 0.0 if is_drafted else draft_s[streams]
    return most


@dataclass(slots=True)
class Purse:
    """What reading ahead may still lose: a share of the time, and a little of what it has won.

    Everything that a step takes beyond plain decoding is paid from it, thinking included, and what
    its right guesses save is put in. So whatever the reason why expectations are not met, reading
    ahead ends by itself when it has lost a few steps, and is tried again now and then.
    """

    balance_s: float = 0.0
    step_s: float = 0.0  # of the last step, which says how much is a little

    def settle(self, step_s: float, extra_s: float) -> None:
        """A step is over that took `extra_s` longer than a plain one."""
        self.step_s = step_s
        self._add(SHARE * step_s - extra_s)

    def win(self, saved_s: float) -> None:
        """Right guesses have saved so much."""
        self._add(saved_s)

    def _add(self, more_s: float) -> None:
        few_s = STEPS * self.step_s
        self.balance_s = max(-DEBTS * few_s, min(self.balance_s + more_s, few_s))

    @property
    def is_empty(self) -> bool:
        """Whether even to think of guesses would be too much."""
        return self.balance_s < -STEPS * self.step_s

    def affords(self, loss_s: float) -> bool:
        """Whether a try that may lose so much may be made."""
        return loss_s <= self.balance_s
