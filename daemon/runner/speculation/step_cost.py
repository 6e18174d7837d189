"""What a decode costs here by its number of rows, learnt from the decodes themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NOISE = 0.05**2  # variance of the logarithm of a call's time at least, ...
DRIFT = 0.02**2  # ... of the machine's speed from one call to the next, ...
CHANGE = 0.001**2  # ... and of what one number of rows costs beside others
SPEED = 0.3**2  # doubt whether the machine is as fast as it was when a profile was kept
FRESH = 0.1**2  # doubt whether a call costs more because the one before had other rows
GAP = 0.05**2  # doubt at least of a number of rows of which only others are known
BETWEEN = 0.25  # of the difference of its neighbours, in doubt beside that
OUTSIDE = 0.5  # of the difference in rows, in doubt where it has one neighbour only
STALE = 0.2**2  # doubt of a number of rows, beyond which it does not grow with time
SURPRISE = 3.0  # standard deviations, beyond which a call is not believed
STALL = 1.0  # at most of that is thought to be another speed of the machine
NOISE_MEMORY = 0.03  # weight of the newest call in how much calls scatter
RATE_MEMORY = 0.2  # weight of the newest call in a rate
NUM_FRESH = 2  # calls in a row with as many rows that may cost more

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed of the logarithm of a cost in seconds, or of a factor."""

    log: float
    doubt: float  # variance


UNKNOWN = (Estimate(0.0, FRESH),) * NUM_FRESH


class StepCost:
    """Seconds of a call by its number of rows, as beliefs about their logarithms that are doubted
    together: a call with one number of rows says something of all others (a Kalman filter, whose
    state are the costs).

    Between two calls the machine may become slower or faster, and all costs with it. What one
    number of rows costs beside others hardly ever changes. So a surprise after a change of rows is
    about these rows, and one without is about the machine: what heat, neighbours or a longer
    context slow down is forgotten fast, and what the kernels are like is not. How much calls
    scatter is learnt too. The first two calls in a row that have as many rows may cost more: graphs
    are built anew, and on a GPU recorded anew.

    A row more often costs less than two calls of the same size differ by. So a number of rows that
    is new starts from what its neighbours say, and the whole is the line nearest to all points that
    never falls (isotonic regression, by pooling adjacent violators).
    """

    def __init__(
        self,
        shape: Mapping[int, Estimate] | None = None,
        fresh: Sequence[Estimate] = UNKNOWN,
        noise: float = NOISE,
    ) -> None:
        """`shape`: by rows, as it was on this machine some time ago."""
        shape = shape or {}
        beliefs = [*fresh, *shape.values()]
        self.noise = noise  # variance
        self._places = {rows: NUM_FRESH + i for i, rows in enumerate(shape)}  # in what follows
        self._logs: Vector = np.array([belief.log for belief in beliefs])
        self._doubts: Vector = np.diag([belief.doubt for belief in beliefs])  # covariance
        self._rows = 0  # of the last call
        self._alike = 0  # calls in a row that had as many
        self._line: list[float] = []  # seconds by rows; empty if it is not drawn yet

    @property
    def is_known(self) -> bool:
        return bool(self._places)

    @property
    def shape(self) -> dict[int, Estimate]:
        """What is believed of each number of rows that was seen."""
        return {rows: self._belief(place) for rows, place in self._places.items()}

    @property
    def fresh(self) -> list[Estimate]:
        """What is believed of the factor of the first call in a row that has as many rows, of the
        second, and so on."""
        return [self._belief(place) for place in range(NUM_FRESH)]

    def observe(self, rows: int, took_s: float) -> float:
        """A call with so many rows is over; the seconds that were expected of it."""
        self._grow_old()
        self._alike = self._alike + 1 if rows == self._rows else 1
        self._rows, took = rows, math.log(took_s)
        if rows not in self._places:
            self._add(rows, took)
        return math.exp(self._learn(self._places[rows], took))

    def _grow_old(self) -> None:
        """A call is made after the last one, or after the profile was kept."""
        self._doubts[NUM_FRESH:, NUM_FRESH:] += DRIFT if self._alike else SPEED
        own = self._doubts.ravel()[:: len(self._doubts) + 1]
        own[own < STALE] += CHANGE

    def _learn(self, place: int, took: float) -> float:
        """A call took so long, as a logarithm; what was expected. A surprise is shared out by what
        was in doubt; what of it is beyond belief is either noise or another speed of the machine,
        as the next call will tell."""
        places = [place, self._alike - 1] if self._alike <= NUM_FRESH else [place]
        expected, about = float(self._logs[places].sum()), self._doubts[places].sum(axis=0)
        doubt = float(about[places].sum()) + self.noise
        surprise, most = took - expected, SURPRISE * math.sqrt(doubt)
        believed = min(max(surprise, -most), most)
        gain = about / doubt
        if self._alike > 1:  # since the last call the machine has changed, not the rows' shape
            gain[NUM_FRESH:] = gain[place]
        both = gain[:, None] * about
        self._logs += gain * believed
        self._doubts += gain[:, None] * gain * doubt - both - both.T
        if believed != surprise:
            self._doubts[NUM_FRESH:, NUM_FRESH:] += min(abs(surprise - believed), STALL) ** 2
        self.noise = max(self.noise + NOISE_MEMORY * (believed**2 - doubt), NOISE)
        self._line = []
        return expected

    def _add(self, rows: int, took: float) -> None:
        """A new number of rows: what is believed of it is what its neighbours say, and so are the
        doubts, and some more."""
        size = len(self._logs)
        doubts = np.zeros((size + 1, size + 1))
        doubts[:size, :size] = self._doubts
        if self._places:
            line, nearest = self._up_to(max(rows, *self._places)), self._nearest(rows)
            doubts[size, :size] = doubts[:size, size] = self._doubts[nearest]
            doubts[size, size] = self._doubts[nearest, nearest] + GAP + self._gap(rows, line)
            took = math.log(line[rows])
        else:
            doubts[size, size] = NOISE
        self._places[rows] = size
        self._logs, self._doubts, self._line = np.append(self._logs, took), doubts, []

    def _nearest(self, rows: int) -> int:
        """Where that known number of rows is to be found that is least away."""
        return self._places[min(self._places, key=lambda known: abs(math.log(known / rows)))]

    def _gap(self, rows: int, line: Sequence[float]) -> float:
        """How uncertain a new number of rows is beside its neighbours: the more, the more they
        differ, or the more rows it is away from the only one."""
        low = max((known for known in self._places if known < rows), default=0)
        high = min((known for known in self._places if known > rows), default=0)
        if low and high:
            return (BETWEEN * math.log(line[high] / line[low])) ** 2
        return (OUTSIDE * math.log(rows / (low or high))) ** 2

    def disturb(self) -> None:
        """A call of another kind came between."""
        self._rows = 0

    def seconds(self, rows: int) -> float:
        """Expected of the next call, if it has so many rows."""
        return self.steady_s(rows) * self._freshness(self._alike if rows == self._rows else 0)

    def steady_s(self, rows: int) -> float:
        """Expected of each of many calls in a row that have so many rows."""
        return self._up_to(rows)[rows]

    def steadied_s(self, took_s: float) -> float:
        """What the last call, which took so long, would have taken as one of many alike."""
        return took_s / self._freshness(self._alike - 1)

    def table(self, rows: int) -> list[float]:
        """Expected of the next call, by its rows from 0 up to `rows`: on the line between the
        nearest counts that were seen. No row is free, and more rows cost less only where they are
        as many as those of the last call."""
        factor = self._freshness(0)
        costs = [factor * cost for cost in self._up_to(rows)[: rows + 1]]
        if 0 < self._rows <= rows:
            costs[self._rows] = self.seconds(self._rows)
        return costs

    def settling_s(self, rows: int) -> float:
        """What calls with so many rows take longer, together, until they are steady again, if a
        call with others comes between; nothing if the last call had others anyway."""
        if self._rows != rows:
            return 0.0
        longer = sum(self._freshness(alike) - 1 for alike in range(NUM_FRESH))
        return longer * self.steady_s(rows)

    def _freshness(self, alike: int) -> float:
        """Times that a call takes before which so many in a row had as many rows."""
        return math.exp(max(float(self._logs[alike]), 0.0)) if alike < NUM_FRESH else 1.0

    def _belief(self, place: int) -> Estimate:
        return Estimate(float(self._logs[place]), float(self._doubts[place, place]))

    def _up_to(self, rows: int) -> list[float]:
        """The line, at least so far."""
        if rows >= len(self._line):
            self._line = self._draw(max(rows, *self._places))
        return self._line

    def _draw(self, rows: int) -> list[float]:
        counts = sorted(self._places)
        costs = _never_falling([self._belief(self._places[count]) for count in counts])
        if rows > counts[-1]:
            costs.append(_beyond(counts, costs, rows))
            counts.append(rows)
        line: list[float] = np.interp(np.arange(rows + 1), counts, costs).tolist()
        line[0] = 0.0
        return line


def _never_falling(points: Sequence[Estimate]) -> list[float]:
    """The seconds nearest to these, by squares weighted with their certainty, of which none is
    below the one before."""
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
class TokenCost:
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
        self.token_s += RATE_MEMORY * (token_s - self.token_s)
