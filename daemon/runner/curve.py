"""What a decode costs here by its number of rows, learnt from the decodes themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

NOISE = 0.05**2  # variance of the logarithm of a call's time, ...
DRIFT = 0.02**2  # ... of the machine's speed from one call to the next, ...
CHANGE = 0.0025**2  # ... and of all else that is learnt, each time it is seen
FRESH = 0.05**2  # doubt whether a call costs more because the one before had other rows
SURPRISE = 3.0  # standard deviations, beyond which the machine may have another speed
GAP = 0.05**2  # doubt at least of a number of rows of which only its neighbours are known
BEYOND = 0.5  # of that of one that is outside of them, for each time as many rows
MEMORY = 0.2  # weight of the newest call in a rate


@dataclass(slots=True)
class Belief:
    """What is believed of the logarithm of a cost, or of a factor."""

    log: float
    doubt: float  # variance


@dataclass(slots=True)
class Curve:
    """Seconds of a call by its number of rows. Their logarithm is a sum of beliefs: the speed of
    the machine just now, the shape, by rows, and what a call costs more that is the first or second
    in a row with as many rows (graphs are built anew, and on a GPU recorded anew).

    What a call says is shared out to these by how much each is in doubt: so what heat, neighbours
    or a longer context slow down is forgotten fast, what the kernels are like is not, and what was
    seen while the speed changed says little about the shape. Curves of one machine share its speed.

    A row more often costs less than two calls of the same size differ by. So a number of rows that
    is new starts from what its neighbours say, and the whole is the line nearest to all points that
    never falls (isotonic regression, by pooling adjacent violators).
    """

    shape: dict[int, Belief] = field(default_factory=dict)  # by rows, relative to the speed
    speed: Belief = field(default_factory=lambda: Belief(0.0, NOISE))
    fresh: tuple[Belief, ...] = field(
        default_factory=lambda: (Belief(0.0, FRESH), Belief(0.0, FRESH))
    )  # of the first and of the second call in a row
    _rows: int = 0  # of the last call
    _alike: int = 0  # calls in a row that had as many
    _line: list[float] = field(default_factory=list)  # relative cost by rows; empty: not drawn yet

    @property
    def is_known(self) -> bool:
        return bool(self.shape)

    def observe(self, rows: int, took_s: float) -> float:
        """A call with so many rows is over; the seconds that were expected of it."""
        self._alike = self._alike + 1 if rows == self._rows else 1
        self._rows, took = rows, math.log(took_s)
        if not self.shape:
            self.shape[rows] = Belief(took - self.speed.log, NOISE)
            return took_s
        if rows not in self.shape:
            self.shape[rows] = self._first(rows)
        self._line = []
        learnt = [self.shape[rows], *self.fresh[self._alike - 1 : self._alike]]
        self.speed.doubt += DRIFT
        expected = sum(belief.log for belief in (self.speed, *learnt))
        excess = _learn((self.speed, *learnt), took - expected)
        self.speed.doubt += excess**2  # so the next call is believed if it says the same
        for belief in learnt:
            belief.doubt += CHANGE
        return math.exp(expected)

    def disturb(self) -> None:
        """A call of another kind came between."""
        self._rows = 0

    def seconds(self, rows: int) -> float:
        """Expected of the next call, if it has so many rows."""
        return self.steady_s(rows) * self._freshness(rows)

    def steady_s(self, rows: int) -> float:
        """Expected of each of many calls in a row that have so many rows."""
        return math.exp(self.speed.log) * self._up_to(rows)[rows]

    def table(self, rows: int) -> list[float]:
        """Expected of the next call, by its rows from 0 up to `rows`. But for that, more rows never
        cost less, and no row is free."""
        line = self._up_to(rows)
        factor = math.exp(self.speed.log) * math.exp(self.fresh[0].log)
        costs = [factor * cost for cost in line[: rows + 1]]
        if 0 < self._rows <= rows:
            costs[self._rows] = self.seconds(self._rows)
        return costs

    def settling_s(self, rows: int) -> float:
        """What calls with so many rows take longer, together, until they are steady again; nothing
        if they are not now."""
        if self._rows != rows:
            return 0.0
        longer = sum(math.exp(belief.log) - 1 for belief in self.fresh)
        return max(longer, 0.0) * self.steady_s(rows)

    def _freshness(self, rows: int) -> float:
        alike = self._alike if rows == self._rows else 0
        return math.exp(self.fresh[alike].log) if alike < len(self.fresh) else 1.0

    def _first(self, rows: int) -> Belief:
        """What is believed of a new number of rows: what its neighbours say; that is the less
        certain, the more they differ, or the more rows it is away from the only one."""
        line = self._up_to(max(rows, *self.shape))
        low = max((count for count in self.shape if count < rows), default=0)
        high = min((count for count in self.shape if count > rows), default=0)
        if low and high:
            doubt = math.log(line[high] / line[low]) ** 2
        else:
            doubt = BEYOND * math.log(rows / (low or high)) ** 2
        return Belief(math.log(line[rows]), doubt + GAP)

    def _up_to(self, rows: int) -> list[float]:
        """The line, at least so far: between the counts that were seen, and beyond them through the
        outermost two."""
        if rows >= len(self._line):
            self._line = self._draw(max(rows, *self.shape))
        return self._line

    def _draw(self, rows: int) -> list[float]:
        counts = sorted(self.shape)
        costs = _never_falling([self.shape[count] for count in counts])
        if rows > counts[-1]:
            costs.append(_beyond(counts, costs, rows))
            counts.append(rows)
        line: list[float] = np.interp(np.arange(rows + 1), counts, costs).tolist()
        line[0] = 0.0
        return line


def _learn(beliefs: Sequence[Belief], surprise: float) -> float:
    """Share out a surprise about the sum of these, to each as much as it is in doubt; what of the
    surprise is beyond belief, which no belief takes in."""
    doubt = NOISE + sum(belief.doubt for belief in beliefs)
    limit = SURPRISE * math.sqrt(doubt)
    believed = min(max(surprise, -limit), limit)
    for belief in beliefs:
        share = belief.doubt / doubt
        belief.log += share * believed
        belief.doubt *= 1 - share
    return surprise - believed


def _never_falling(points: Sequence[Belief]) -> list[float]:
    """The costs nearest to these, by squares weighted with their certainty, of which none is below
    the one before."""
    pools: list[tuple[float, float, int]] = []  # logarithm, weight, points
    for point in points:
        log, weight, count = point.log, 1 / (point.doubt + CHANGE), 1
        while pools and pools[-1][0] > log:
            other, other_weight, others = pools.pop()
            log = (log * weight + other * other_weight) / (weight + other_weight)
            weight, count = weight + other_weight, count + others
        pools.append((log, weight, count))
    return [math.exp(log) for log, _, count in pools for _ in range(count)]


def _beyond(counts: Sequence[int], costs: Sequence[float], rows: int) -> float:
    if len(counts) == 1:
        return costs[0] * rows / counts[0]
    slope, of_all = (
        (costs[-1] - costs[i]) / (counts[-1] - counts[i]) for i in (len(counts) - 2, 0)
    )
    return costs[-1] + max(slope, of_all) * (rows - counts[-1])


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
        self.token_s += MEMORY * (token_s - self.token_s)
