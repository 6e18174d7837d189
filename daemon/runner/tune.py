"""How far to draft: the lengths of all streams together that have the highest goodput.

Goodput is the expected number of accepted tokens of the whole batch by the time that drafting and
verifying take. Nothing is assumed about the machine: every figure comes from the steps themselves.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from .curve import Curve

SIZES = frozenset((*range(9), 10, 12, 14, *range(16, 32, 4), *range(32, 1025, 8)))
"""Guesses of a step, all streams together: of few sizes, so that graph shapes recur (guide 6.4)."""
GAIN = 1.02  # expected at least of a draft, so that noise does not start one
PATIENCE = 1  # decodes of the drafter that may seem not to help, before one that does
AHEAD = 8  # rows more of the target that are thought of while guesses are made
SHARE = 0.01  # of the time may be lost by reading ahead, ...
STEPS = 1.5  # ... and what so many steps of one stream take, if it has bad luck
FADING = 0.9  # of that, from step to step, where one with guesses takes longer than a plain one
DEBTS = 5.0  # times that, which one try may cost; a larger debt is forgiven
IDLE_SHARE = 0.005  # of the time may be spent on thinking of which nothing comes, ...
MAX_REST = 16  # ... and for so many steps at most nobody thinks


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
    best, missed = Plan([0] * len(options), costs.goodput), 0
    if not any(option.chances for option in options):
        return best
    goal, batch = GAIN * costs.goodput, GoodputSearch(options, costs)
    for layers in range(1 + batch.layers):
        plan = batch.fill(layers)
        if plan.goodput > goal:
            goal, best, missed = plan.goodput, plan, 0
        elif layers and (missed := missed + 1) > PATIENCE:
            break
    return best


class GoodputSearch:
    """The guesses that could be verified, likeliest first, and what each adds to a step."""

    def __init__(self, options: Sequence[Option], costs: Costs) -> None:
        candidates = [
            Candidate(-reach, depth, i, max(depth - option.drafted + 1, 0))
            for i, option in enumerate(options)
            for depth, reach in enumerate(option.reach)
        ]
        by_depth = operator.attrgetter("depth", "stream")
        candidates.sort(key=by_depth if costs.is_even else None)
        self.layers = max(candidate.layer for candidate in candidates)
        self._options = options
        self._costs = costs
        self._adding = list(zip(candidates, self._drafting_s(candidates), strict=True))
        self._verify_s = costs.verify.table(costs.rows + len(candidates))[costs.rows :]

    def _drafting_s(self, candidates: Sequence[Candidate]) -> list[float]:
        """What each adds to the decodes of the drafter, if those before it in its layer are in."""
        if not self.layers:
            return [0.0] * len(candidates)
        options = self._options
        most = sum(option.rows for option in options if option.drafted < len(option.chances))
        draft_s = self._costs.draft.table(most)
        asking = [0] * (self.layers + 1)  # rows of the drafter by layer
        added_s: list[float] = []
        for unlikely, _, stream, layer in candidates:
            if not layer:
                added_s.append(0.0)
                continue
            before, option = asking[layer], options[stream]
            asking[layer] += option.rows if layer == 1 else 1
            catch_up_s = option.token_s * ((layer == 1) - unlikely)
            added_s.append(draft_s[asking[layer]] - draft_s[before] + catch_up_s)
        return added_s

    def fill(self, layers: int) -> Plan:
        """The best number of guesses, added one after the other, where the drafter makes so many
        decodes."""
        costs = self._costs
        adding = [each for each in self._adding if each[0].layer <= layers]
        tokens, goodputs = costs.tokens, [costs.goodput]
        took_s = costs.spent_s + costs.leave_s
        for (candidate, added_s), verify_s in zip(adding, self._verify_s[1:], strict=False):
            tokens -= candidate.unlikely
            took_s += added_s
            goodputs.append(tokens / (verify_s + took_s))
        count = max(self._counts(layers, len(adding)), key=goodputs.__getitem__, default=0)
        lengths = [0] * len(self._options)
        for candidate, _ in adding[:count]:
            lengths[candidate.stream] = candidate.depth + 1
        return Plan(lengths, goodputs[count])

    def _counts(self, layers: int, most: int) -> Iterable[int]:
        """Numbers of guesses that may be chosen. Where none of them has to be made, that is the
        number of the rows."""
        if self._costs.is_even:
            depth = min(min(len(o.chances), o.drafted + layers) for o in self._options)
            return range(len(self._options), depth * len(self._options) + 1, len(self._options))
        counts = range(1, most + 1)
        return counts if layers else (count for count in counts if count in SIZES)


def num_worth(reach: Sequence[float], drafted: int, plan: Plan, costs: Costs) -> int:
    """Of how many streams one more guess is worth a decode of the drafter, while a plan is carried
    out. `reach`: the chances of these guesses, best first; so many others are `drafted` already.

    Time is worth what the plan expects to make of it. A row of the target costs what it does on
    average up to the cheapest of the next `AHEAD`: single rows may be dear, and those after them
    for nothing.
    """
    rows = costs.rows + drafted
    verify_s = costs.verify.table(rows + AHEAD)[rows:]
    row_s = min(max(verify_s[more] - verify_s[0], 0.0) / more for more in range(1, 1 + AHEAD))
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
    streams, rows, is_drafted = costs.streams, option.rows, option.drafted >= len(option.chances)
    plain_s, goodput = costs.verify.seconds(costs.rows), costs.goodput
    first_s, next_s = (
        (0.0, 0.0)
        if is_drafted
        else (costs.draft.seconds(streams * rows), costs.draft.seconds(streams))
    )
    tokens, drafting_s, most = 0.0, costs.leave_s + first_s + streams * option.token_s, 0.0
    for depth, chance in enumerate(option.reach, 1):
        tokens += chance
        drafting_s += streams * option.token_s * chance
        took_s = costs.verify.seconds(costs.rows + streams * depth) - plain_s + drafting_s
        most = max(most, tokens - goodput * took_s / streams)
        drafting_s += next_s
    return most


@dataclass(slots=True)
class Purse:
    """What reading ahead may still lose: a share of the time, and a little of what it has won.

    Everything that a step takes beyond plain decoding is paid from it, thinking included, and what
    its right guesses save is put in. So whatever the reason why expectations are not met, reading
    ahead ends by itself when it has lost a step, and is tried again now and then.

    Where steps are short, to think of guesses is dear by itself. So whoever thought and verified
    nothing rests, until that was a small share of the time.
    """

    balance_s: float = 0.0
    few_s: float = 0.0  # what counts as little: a plain step, or what guesses took just now
    idle_s: float = 0.0  # of thinking of which nothing came, beyond its share so far

    def settle(
        self, plain_s: float, extra_s: float, *, idle_s: float = 0.0, streams: int = 1
    ) -> None:
        """A step of so many streams is over that took `extra_s` longer than a plain one would have;
        of that, `idle_s` was thinking of which nothing came. The more streams there are, the less
        is a matter of luck."""
        swing = max(STEPS / math.sqrt(streams), 1.0)
        once_s = max(plain_s, min(extra_s, DEBTS * plain_s))
        self.few_s = max(swing * once_s, FADING * self.few_s)
        self._add(SHARE * plain_s - extra_s)
        share_s = IDLE_SHARE * plain_s
        self.idle_s = min(max(self.idle_s + idle_s - share_s, 0.0), MAX_REST * share_s)

    def win(self, saved_s: float) -> None:
        """Right guesses have saved so much."""
        self._add(saved_s)

    def _add(self, more_s: float) -> None:
        self.balance_s = max(-DEBTS * self.few_s, min(self.balance_s + more_s, self.few_s))

    @property
    def rests(self) -> bool:
        """Whether even to think of guesses would be too much."""
        return self.idle_s > 0 or self.balance_s < -self.few_s

    def affords(self, loss_s: float) -> bool:
        """Whether a try that may lose so much may be made."""
        return loss_s <= self.balance_s
