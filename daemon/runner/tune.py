"""How far to draft: what rows cost here, how often guesses are right, and what maximises goodput.

Goodput is the expected number of accepted tokens of the whole batch by the time that drafting and
verifying take. Nothing is assumed about the machine: every figure comes from the steps themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul

LENGTHS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)  # few, so that graph shapes recur (guide 6.4)
GAIN = 1.05  # expected at least of a draft, so that noise does not start one
SHAPE_MEMORY = 0.1  # weight of the newest measurement in the cost of so many rows, ...
SCALE_MEMORY = 0.2  # ... and in how fast the machine is just now
OUTLIER = 3.0  # a step that took so many times what was expected counts as so many
DECAY = 0.97  # of what is known about acceptance, by guess
PRIOR_GUESSES = 4.0  # that a new stream's prior counts for
FIRST_CHANCE = 0.6  # of a guess of which nothing is known
PROBE_SHARE = 0.01  # of the time may be lost by trying what seems not to pay
BUCKETS = 8  # of a drafter's confidence


@dataclass(slots=True)
class Curve:
    """Seconds of a call by its number of rows: a shape that is learnt once, times the speed of the
    machine just now. The shape is relative, so what heat, neighbours or a longer context slow
    down is forgotten fast, and what the kernels are like is not."""

    shape: dict[int, float] = field(default_factory=dict)  # by rows
    scale: float = 1.0

    @property
    def is_known(self) -> bool:
        return bool(self.shape)

    def observe(self, rows: int, took_s: float) -> float:
        """A call with so many rows is over; the seconds that were expected of it."""
        if not self.shape:
            self.shape[rows], self.scale = took_s, 1.0
            return took_s
        known = self.seconds(rows)
        took_s = min(took_s, OUTLIER * known)
        if rows not in self.shape:
            self.shape[rows] = took_s / self.scale
            return known
        self.shape[rows] += SHAPE_MEMORY * (took_s / self.scale - self.shape[rows])
        self.scale *= (took_s / known) ** SCALE_MEMORY
        return known

    def seconds(self, rows: int) -> float:
        """Expected of a call with so many rows."""
        return self.table(rows)[rows]

    def table(self, rows: int) -> list[float]:
        """Expected of calls with 0 to `rows` rows: on the line between the nearest counts that
        were seen, and beyond them on the line through the outermost two. No row is free, and more
        rows never cost less."""
        counts = sorted(self.shape)
        costs = list(accumulate((self.shape[count] for count in counts), max))
        if rows > counts[-1]:
            costs.append(_beyond(counts, costs, rows))
            counts.append(rows)
        table, last, last_cost = [0.0], 0, costs[0]
        for count, cost in zip(counts, costs, strict=True):
            slope = (cost - last_cost) / (count - last)
            table += [self.scale * (last_cost + slope * i) for i in range(1, count - last + 1)]
            if count >= rows:
                break
            last, last_cost = count, cost
        return table[: rows + 1]


def _beyond(counts: Sequence[int], costs: Sequence[float], rows: int) -> float:
    if len(counts) == 1:
        return costs[0] * rows / counts[0]
    slope = (costs[-1] - costs[-2]) / (counts[-1] - counts[-2])
    return costs[-1] + slope * (rows - counts[-1])


@dataclass(slots=True)
class Rate:
    """Seconds that a token takes when many are evaluated at once."""

    token_s: float = 0.0

    @property
    def is_known(self) -> bool:
        return self.token_s > 0

    def observe(self, tokens: int, took_s: float) -> None:
        """A call with so many tokens is over."""
        token_s = took_s / tokens
        if not self.is_known:
            self.token_s = token_s
        self.token_s += SCALE_MEMORY * (token_s - self.token_s)


@dataclass(slots=True)
class Record:
    """How often something was right; old guesses count less and less."""

    right: float = 0.0
    total: float = 0.0

    def observe(self, is_right: bool) -> None:
        self.right = DECAY * self.right + is_right
        self.total = DECAY * self.total + 1

    def chance(self, prior: float) -> float:
        return (self.right + PRIOR_GUESSES * prior) / (self.total + PRIOR_GUESSES)


@dataclass(frozen=True, slots=True)
class Option:
    """What one stream could be given: the chance of each guess, given those before it."""

    chances: tuple[float, ...]
    rows: int = 0  # of the drafter's first decode for it; 0: the guesses are there already
    token_s: float = 0.0  # of catching up with the text, shared out to the tokens it will pay for

    @property
    def reach(self) -> tuple[float, ...]:
        """The chance that a guess and all before it are right, by depth."""
        return tuple(accumulate(self.chances, mul))


Kind = tuple[str, int]  # what a guess is like: ("depth", d), or ("sure", bucket of confidence)


class Acceptance:
    """How likely a guess is right, if those before it were.

    A stream's own record is drawn towards what all streams have seen of such guesses.
    """

    def __init__(self, general: dict[tuple[str, Kind], Record] | None = None) -> None:
        self.general = general or {}  # by drafter, of all streams
        self._streams: dict[int, dict[tuple[str, Kind], Record]] = {}

    def observe(
        self, drafter: str, stream: int, confidences: Sequence[float], accepted: int
    ) -> None:
        """The first `accepted` guesses were right; the next one, if any, was wrong."""
        own = self._streams.setdefault(stream, {})
        for depth, confidence in enumerate(confidences[: accepted + 1]):
            for kind in (("depth", depth), _sure(confidence)):
                for table in (self.general, own):
                    table.setdefault((drafter, kind), Record()).observe(depth < accepted)

    def expected(self, drafter: str, stream: int, length: int) -> tuple[float, ...]:
        """Of guesses that are not made yet. A depth that was seldom reached is judged by the one
        before it. Bad news of all streams is believed by half: good news is soon corrected, where
        it is wrong, but what is not tried is never corrected."""
        chances: list[float] = []
        own = self._streams.get(stream, {})
        for depth in range(length):
            kind = drafter, ("depth", depth)
            before = chances[-1] if chances else FIRST_CHANCE
            of_all = self.general.get(kind, Record()).chance(before)
            prior = max(of_all, (of_all + before) / 2)
            chances.append(own.get(kind, Record()).chance(prior))
        return tuple(chances)

    def judged(self, drafter: str, stream: int, confidences: Sequence[float]) -> tuple[float, ...]:
        """Of guesses whose confidence is known."""
        own = self._streams.get(stream, {})
        chances = []
        for confidence in confidences:
            kind = drafter, _sure(confidence)
            of_all = self.general.get(kind, Record()).chance(confidence)
            chances.append(own.get(kind, Record()).chance(of_all))
        return tuple(chances)

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)


def _sure(confidence: float) -> Kind:
    return "sure", min(int(confidence * BUCKETS), BUCKETS - 1)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a step takes here, and what is in it anyhow."""

    verify: Curve  # by rows of the target
    draft: Curve  # by rows of the drafter; not asked if all guesses are there already
    streams: int  # that each get a token
    rows: int  # without guesses
    is_even: bool = False  # whether all streams must be given as many guesses

    @property
    def goodput(self) -> float:
        """Tokens a second without guesses."""
        return self.streams / self.verify.seconds(self.rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """How far each stream is drafted, and the tokens a second that are expected of that."""

    lengths: list[int]
    goodput: float


def choose(options: Sequence[Option], costs: Costs) -> Plan:
    """Draft lengths of all streams together, those of the highest expected goodput.

    Guesses are added in the order of their chance, which respects their depth, and the best
    number of them wins.
    """
    ranked = [(-ch, depth, i) for i, o in enumerate(options) for depth, ch in enumerate(o.reach)]
    best = Plan([0] * len(options), costs.goodput)
    if not ranked:
        return best
    ranked.sort(key=(lambda guess: guess[1:]) if costs.is_even else None)
    verify_s = costs.verify.table(costs.rows + len(ranked))[costs.rows :]
    asked = sum(option.rows for option in options)
    draft_s = costs.draft.table(asked) if asked else []
    goal = GAIN * costs.goodput
    lengths, tokens, drafting_s = best.lengths[:], float(costs.streams), 0.0
    asking = [0] * (1 + len(ranked))  # rows of the drafter by depth
    for added, (chance, depth, i) in enumerate(ranked, 1):
        option = options[i]
        tokens -= chance
        lengths[i] = depth + 1
        if option.rows:
            before = asking[depth]
            asking[depth] += 1 if depth else option.rows
            drafting_s += draft_s[asking[depth]] - draft_s[before]
            drafting_s += option.token_s * ((depth == 0) - chance)
        goodput = tokens / (verify_s[added] + drafting_s)
        if costs.is_even and len(set(lengths)) > 1:
            continue
        if goodput > goal and all(length in LENGTHS for length in lengths):
            goal, best = goodput, Plan(lengths[:], goodput)
    return best


def better(one: Option, other: Option, costs: Costs) -> Option:
    """The one that brings more tokens for its time, if all streams did the same."""
    return other if _profit(other, costs) > _profit(one, costs) else one


def _profit(option: Option, costs: Costs) -> float:
    """Tokens a step and stream beyond those that the same time brings without guesses."""
    streams, length = costs.streams, len(option.chances)
    verify_s = costs.verify.table(costs.rows + streams * length)[costs.rows :: streams]
    draft_s = costs.draft.table(streams * option.rows) if option.rows else [0.0]
    tokens, drafting_s, most = 0.0, draft_s[-1] + streams * option.token_s, 0.0
    for depth, chance in enumerate(option.reach, 1):
        tokens += chance
        drafting_s += streams * option.token_s * chance
        took_s = verify_s[depth] - verify_s[0] + drafting_s
        most = max(most, tokens - costs.goodput * took_s / streams)
        drafting_s += draft_s[streams] if option.rows else 0.0
    return most


@dataclass(slots=True)
class Purse:
    """What may be lost by trying: a share of all the time spent."""

    earned_s: float = 0.0

    def earn(self, took_s: float) -> None:
        self.earned_s += PROBE_SHARE * took_s

    def pay(self, loss_s: float) -> bool:
        """Whether a try that may lose so much can be afforded; it is paid at once."""
        if loss_s > self.earned_s:
            return False
        self.earned_s -= loss_s
        return True
