"""What a decode costs here by its number of rows, learnt from the decodes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

FIRST_WEIGHT = 3.0  # steps that what is first believed of a number of rows counts for
MAX_WEIGHT = 20.0  # so that older steps are forgotten
SCALE_MEMORY = 0.2  # weight of the newest call in how fast the machine is just now
FRESH_MEMORY = 0.1  # weight of the newest call in what a change of rows costs
MOST_FRESH = 4.0  # times that a call may take, at most, because of that
AGE = 8  # calls, which what is expected of a call may leave out: a line takes a while to draw
OUTLIER = 3.0  # a step that took so many times what was expected counts as so many


@dataclass(slots=True)
class Point:
    """What is known of calls with one number of rows."""

    cost: float  # relative to the scale of its curve
    weight: float  # steps that it counts for


@dataclass(slots=True)
class Curve:
    """Seconds of a call by its number of rows: a shape that is learnt once, times the speed of the
    machine just now. The shape is relative, so what heat, neighbours or a longer context slow
    down is forgotten fast, and what the kernels are like is not. The first two calls in a row that
    have as many rows may cost more: graphs are built anew, and on a GPU recorded anew.

    A row more often costs less than two calls of the same size differ by. So a number of rows that
    is new starts from what its neighbours say, and the whole is the line nearest to all points that
    never falls (isotonic regression, by pooling adjacent violators).
    """

    shape: dict[int, Point] = field(default_factory=dict)  # by rows
    scale: float = 1.0
    fresh: list[float] = field(default_factory=lambda: [1.0, 1.0])  # times that those take
    _rows: int = 0  # of the last call
    _alike: int = 0  # calls in a row that had as many
    _line: list[float] = field(default_factory=list)  # cost by rows; empty if it is not drawn yet
    _age: int = 0  # calls since that

    @property
    def is_known(self) -> bool:
        return bool(self.shape)

    def observe(self, rows: int, took_s: float) -> float:
        """A call with so many rows is over; the seconds that were expected of it."""
        self._alike = self._alike + 1 if rows == self._rows else 1
        self._rows = rows
        known = (
            self.steady_s(rows, age=AGE) * self._freshness(self._alike) if self.shape else took_s
        )
        took_s = min(took_s, OUTLIER * known)
        point = self.shape.get(rows)
        if point:
            self._refresh(took_s / known)
            self.scale *= (took_s / known) ** SCALE_MEMORY
        cost = took_s / self._freshness(self._alike) / self.scale
        if point is None:
            point = self.shape[rows] = Point(self._first(rows, cost), FIRST_WEIGHT)
        point.weight = min(point.weight + 1, MAX_WEIGHT)
        point.cost += (cost - point.cost) / point.weight
        self._age += 1
        return known

    def _refresh(self, surprise: float) -> None:
        """A call took so many times what was expected of it."""
        if self._alike <= len(self.fresh):
            factor = self.fresh[self._alike - 1] * surprise**FRESH_MEMORY
            self.fresh[self._alike - 1] = min(max(factor, 1.0), MOST_FRESH)

    def _freshness(self, alike: int) -> float:
        """Times that a call takes which is the first, second, ... in a row."""
        return self.fresh[alike - 1] if alike <= len(self.fresh) else 1.0

    def disturb(self) -> None:
        """A call of another kind came between."""
        self._rows = 0

    def _first(self, rows: int, cost: float) -> float:
        """What is believed of a new number of rows: what its neighbours say, if it has two."""
        is_between = bool(self.shape) and min(self.shape) < rows < max(self.shape)
        return self.steady_s(rows) / self.scale if is_between else cost

    def seconds(self, rows: int) -> float:
        """Expected of the next call, if it has so many rows."""
        return self.steady_s(rows) * self._freshness(self._alike + 1 if rows == self._rows else 1)

    def steady_s(self, rows: int, *, age: int = 0) -> float:
        """Expected of each of many calls in a row that have so many rows, by all calls but for the
        last `age` at most."""
        return self.scale * self._up_to(rows, age)[rows]

    def table(self, rows: int) -> list[float]:
        """Expected of the next call, by its rows from 0 up to `rows`: on the line between the
        nearest counts that were seen. No row is free, and more rows cost less only where they are
        as many as those of the last call."""
        factor = self.scale * self.fresh[0]
        costs = [factor * cost for cost in self._up_to(rows)[: rows + 1]]
        if 0 < self._rows <= rows:
            costs[self._rows] = self.seconds(self._rows)
        return costs

    def settling_s(self, rows: int) -> float:
        """What calls with so many rows take longer, together, until they are steady again, if a
        call with others comes between; nothing if the last call had others anyway."""
        if self._rows != rows:
            return 0.0
        return sum(factor - 1 for factor in self.fresh) * self.steady_s(rows)

    def _up_to(self, rows: int, age: int = 0) -> list[float]:
        """The line, at least so far, and as far as it was ever asked for."""
        if rows >= len(self._line) or self._age > age:
            self._line, self._age = self._draw(max(rows, len(self._line) - 1)), 0
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


def _never_falling(points: Sequence[Point]) -> list[float]:
    """The costs nearest to these, by weighted squares, of which none is below the one before."""
    pools: list[tuple[float, float, int]] = []  # cost, weight, points
    for point in points:
        cost, weight, count = point.cost, point.weight, 1
        while pools and pools[-1][0] > cost:
            other, other_weight, others = pools.pop()
            cost = (cost * weight + other * other_weight) / (weight + other_weight)
            weight, count = weight + other_weight, count + others
        pools.append((cost, weight, count))
    return [cost for cost, _, count in pools for _ in range(count)]


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
        self.token_s += SCALE_MEMORY * (token_s - self.token_s)
