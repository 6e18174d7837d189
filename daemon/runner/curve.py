"""What a decode costs here by its number of rows, learnt from the decodes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_WEIGHT = 3.0  # steps that what is first believed of a number of rows counts for
MAX_WEIGHT = 20.0  # so that older steps are forgotten
SCALE_MEMORY = 0.2  # weight of the newest call in how fast the machine is just now
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
    down is forgotten fast, and what the kernels are like is not.

    A row more often costs less than two calls of the same size differ by. So a number of rows that
    is new starts from what its neighbours say, and the whole is the line nearest to all points that
    never falls (isotonic regression, by pooling adjacent violators).
    """

    shape: dict[int, Point] = field(default_factory=dict)  # by rows
    scale: float = 1.0
    _line: list[float] = field(default_factory=list)  # cost by rows; empty if it is not drawn yet
    _age: int = 0  # calls since that

    @property
    def is_known(self) -> bool:
        return bool(self.shape)

    def observe(self, rows: int, took_s: float) -> float:
        """A call with so many rows is over; the seconds that were expected of it."""
        if self.shape:
            known = self.seconds(rows, age=AGE)
            took_s = min(took_s, OUTLIER * known)
        else:
            known = took_s
        point = self.shape.get(rows)
        if point:
            self.scale *= (took_s / known) ** SCALE_MEMORY
        cost = took_s / self.scale
        if point is None:
            point = self.shape[rows] = Point(self._first(rows, cost), FIRST_WEIGHT)
        point.weight = min(point.weight + 1, MAX_WEIGHT)
        point.cost += (cost - point.cost) / point.weight
        self._age += 1
        return known

    def _first(self, rows: int, cost: float) -> float:
        """What is believed of a new number of rows: what its neighbours say, if it has two."""
        is_between = bool(self.shape) and min(self.shape) < rows < max(self.shape)
        return self.seconds(rows) / self.scale if is_between else cost

    def seconds(self, rows: int, *, age: int = 0) -> float:
        """Expected of a call with so many rows, by all calls but for the last `age` at most."""
        return self.scale * self._up_to(rows, age)[rows]

    def table(self, rows: int) -> list[float]:
        """Expected of calls with 0 to `rows` rows: on the line between the nearest counts that
        were seen, and beyond them on the line through the outermost two. No row is free, and more
        rows never cost less."""
        return [self.scale * cost for cost in self._up_to(rows)[: rows + 1]]

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
        line, last, last_cost = [0.0], 0, costs[0]
        for count, cost in zip(counts, costs, strict=True):
            slope = (cost - last_cost) / (count - last)
            line += [last_cost + slope * i for i in range(1, count - last + 1)]
            last, last_cost = count, cost
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
