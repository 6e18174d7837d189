"""What does a decode cost on this machine, by its number of rows? Measured from decodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...protocol import RowCost

# Variances are of natural logarithms of seconds, so their roots are relative deviations. Those
# without another source were set by hand, checked by tests/sim.
MIN_NOISE = 0.05**2  # smallest variance of one measurement
SPEED_DRIFT = 0.02**2  # variance that the machine's speed gains per call
SHAPE_DRIFT = 0.001**2
"""Variance that the cost of one row count, relative to the others, gains per call."""
RESTART_VARIANCE = 0.3**2  # variance of the machine's speed when a stored profile is used again
TRANSIENT_VARIANCE = 0.1**2  # prior variance of the transient factors
NEW_COUNT_VARIANCE = 0.05**2  # smallest variance of a row count that is estimated from others
INTERPOLATION_SHARE = 0.25
"""Deviation of a new row count between two others, as a share of their difference in log cost."""
EXTRAPOLATION_SHARE = 0.5
"""Deviation of a new row count beyond all others, as a share of the difference in log rows."""
MAX_SHAPE_VARIANCE = 0.2**2  # variance of a row count above which SHAPE_DRIFT is not added
OUTLIER_DEVIATIONS = 3.0
"""Innovation, in standard deviations, beyond which a measurement is clipped (Huber, 1964)."""
MAX_SPEED_JUMP = 1.0
"""Largest part of a clipped innovation that may be a change of the machine's speed, as a log."""
NOISE_WEIGHT = 0.03  # weight of the newest call in the variance of measurements
TOKEN_COST_WEIGHT = 0.2  # weight of the newest call in the cost of a token
NUM_TRANSIENT = 2
"""Calls with an unchanged row count that may still take longer: llama.cpp builds a graph in the
first, and the CUDA backend captures it in the second (GUIDE 6.4)."""
MIN_CALL_S = 1e-9
"""Shortest call, in seconds: the resolution of the clock, so that the logarithm is finite."""

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A normal distribution of the logarithm of seconds, or of a factor."""

    log: float
    variance: float


NO_TRANSIENT = (Estimate(0.0, TRANSIENT_VARIANCE),) * NUM_TRANSIENT


class StepCost:
    """Seconds of a call by its number of rows: a Kalman filter whose state are the log costs.

    Their errors are correlated, so a call with one row count corrects the others too. Between two
    calls the speed of the machine drifts, which changes all costs alike; what one row count costs
    relative to others hardly drifts. An innovation after a change of rows therefore corrects those
    rows, and one without a change corrects the speed. The variance of measurements is estimated
    from the innovations. Transient factors hold how much longer the first calls with an unchanged
    row count take.

    A row often costs less than the noise of one call. So a new row count starts from its
    neighbours, and the curve is the isotonic regression of all estimates (pooling adjacent
    violators).
    """

    def __init__(
        self,
        by_rows: Mapping[int, Estimate] | None = None,
        transient: Sequence[Estimate] = NO_TRANSIENT,
        noise: float = MIN_NOISE,
    ) -> None:
        """As stored: estimates by rows, transient factors, and the variance of measurements."""
        by_rows = by_rows or {}
        estimates = [*transient, *by_rows.values()]
        self.noise = noise
        # The state vector holds the transient factors, then one cost for each row count.
        self._index = {rows: NUM_TRANSIENT + i for i, rows in enumerate(by_rows)}
        self._logs: Vector = np.array([estimate.log for estimate in estimates])
        self._covariance: Vector = np.diag([estimate.variance for estimate in estimates])
        self._rows = 0  # of the last call
        self._repeats = 0  # calls in a row with that row count
        self._fitted_s: list[float] = []  # seconds by rows; empty until it is fitted

    @property
    def is_known(self) -> bool:
        return bool(self._index)

    @property
    def by_rows(self) -> dict[int, Estimate]:
        """The estimate of each row count that was measured."""
        return {rows: self._estimate(i) for rows, i in self._index.items()}

    def measured(self) -> tuple[RowCost, ...]:
        """The expected seconds after the transient, for each row count that was measured."""
        return tuple(RowCost(rows, self.steady_s(rows)) for rows in sorted(self._index))

    @property
    def transient(self) -> list[Estimate]:
        """The factors of the first NUM_TRANSIENT calls with an unchanged row count."""
        return [self._estimate(i) for i in range(NUM_TRANSIENT)]

    def observe(self, rows: int, took_s: float) -> float:
        """Learn from a call; returns the seconds that were expected of it."""
        self._predict()
        self._repeats = self._repeats + 1 if rows == self._rows else 1
        self._rows, took = rows, math.log(max(took_s, MIN_CALL_S))
        if rows not in self._index:
            self._add_count(rows, took)
        return math.exp(self._update(self._index[rows], took))

    def _predict(self) -> None:
        """Time update: the speed drifts, and the cost of each row count a little."""
        drift = SPEED_DRIFT if self._repeats else RESTART_VARIANCE
        self._covariance[NUM_TRANSIENT:, NUM_TRANSIENT:] += drift
        variances = self._covariance.ravel()[:: len(self._covariance) + 1]
        variances[variances < MAX_SHAPE_VARIANCE] += SHAPE_DRIFT

    def _update(self, index: int, took: float) -> float:
        """Measurement update with the log of a call's seconds; returns the expected log.

        What is clipped off an outlier is noise or another speed of the machine, which the next call
        tells; until then it is added to the variance of the speed.
        """
        expected, cross = float(self._logs[index]), self._covariance[index]
        variance = float(cross[index])
        if self._repeats <= NUM_TRANSIENT:
            transient = self._repeats - 1
            expected += float(self._logs[transient])
            cross = cross + self._covariance[transient]
            variance = float(cross[index]) + float(cross[transient])
        variance += self.noise
        innovation, limit = took - expected, OUTLIER_DEVIATIONS * math.sqrt(variance)
        clipped = min(max(innovation, -limit), limit)
        gain = cross / variance
        if self._repeats > 1:  # only the speed has changed since the last call
            gain[NUM_TRANSIENT:] = gain[index]
        both = gain[:, None] * cross
        self._logs += gain * clipped
        self._covariance += gain[:, None] * gain * variance - both - both.T
        if clipped != innovation:
            jump = min(abs(innovation - clipped), MAX_SPEED_JUMP)
            self._covariance[NUM_TRANSIENT:, NUM_TRANSIENT:] += jump**2
        self.noise = max(self.noise + NOISE_WEIGHT * (clipped**2 - variance), MIN_NOISE)
        self._fitted_s = []
        return expected

    def _add_count(self, rows: int, took: float) -> None:
        """A new row count takes its estimate from the curve, and the covariance of the nearest."""
        size = len(self._logs)
        covariance = np.zeros((size + 1, size + 1))
        covariance[:size, :size] = self._covariance
        if self._index:
            fitted_s, nearest = self._fitted_to(max(rows, *self._index)), self._nearest(rows)
            covariance[size, :size] = covariance[:size, size] = self._covariance[nearest]
            own = self._covariance[nearest, nearest]
            covariance[size, size] = own + NEW_COUNT_VARIANCE + self._gap_variance(rows, fitted_s)
            took = math.log(fitted_s[rows])
        else:
            covariance[size, size] = MIN_NOISE
        self._index[rows] = size
        self._logs, self._covariance, self._fitted_s = np.append(self._logs, took), covariance, []

    def _nearest(self, rows: int) -> int:
        """The index of the known row count with the smallest ratio to this one."""
        return self._index[min(self._index, key=lambda known: abs(math.log(known / rows)))]

    def _gap_variance(self, rows: int, fitted_s: Sequence[float]) -> float:
        """Variance of a new row count because of its distance to the known ones."""
        low = max((known for known in self._index if known < rows), default=0)
        high = min((known for known in self._index if known > rows), default=0)
        if low and high:
            return (INTERPOLATION_SHARE * math.log(fitted_s[high] / fitted_s[low])) ** 2
        return (EXTRAPOLATION_SHARE * math.log(rows / (low or high))) ** 2

    def interrupt(self) -> None:
        """A call of another kind was made, so the next one starts with the first transient."""
        self._rows = 0

    def next_s(self, rows: int) -> float:
        """Expected seconds of the next call, if it has so many rows."""
        return self.steady_s(rows) * self._factor(self._repeats if rows == self._rows else 0)

    def steady_s(self, rows: int) -> float:
        """Expected seconds of a call with so many rows after the transient."""
        return self._fitted_to(rows)[rows]

    def measured_s(self, rows: int) -> float:
        """`steady_s` without extrapolation to more rows than were measured: never too high."""
        return self.steady_s(min(rows, max(self._index)))

    def without_transient_s(self, took_s: float) -> float:
        """Seconds that the last call, which took `took_s`, would have taken after the transient."""
        return took_s / self._factor(self._repeats - 1)

    def table(self, rows: int) -> list[float]:
        """Expected seconds of the next call, by its rows from 0 to `rows`.

        Rises with the rows, except that the row count of the last call has no transient.
        """
        factor = self._factor(0)
        costs = [factor * cost for cost in self._fitted_to(rows)[: rows + 1]]
        if 0 < self._rows <= rows:
            costs[self._rows] = self.next_s(self._rows)
        return costs

    def return_s(self, rows: int) -> float:
        """Seconds that a step with another row count adds to later steps with `rows`, by their
        transient; 0 if the last call had other rows anyway."""
        if self._rows != rows:
            return 0.0
        longer = sum(self._factor(repeats) - 1 for repeats in range(NUM_TRANSIENT))
        return longer * self.steady_s(rows)

    def _factor(self, repeats: int) -> float:
        """The transient factor of a call before which `repeats` in a row had its row count."""
        return math.exp(max(float(self._logs[repeats]), 0.0)) if repeats < NUM_TRANSIENT else 1.0

    def _estimate(self, index: int) -> Estimate:
        return Estimate(float(self._logs[index]), float(self._covariance[index, index]))

    def _fitted_to(self, rows: int) -> list[float]:
        """Seconds by rows, at least up to `rows`."""
        if rows >= len(self._fitted_s):
            self._fitted_s = self._fit(max(rows, *self._index))
        return self._fitted_s

    def _fit(self, rows: int) -> list[float]:
        counts = sorted(self._index)
        costs = _isotonic([self._estimate(self._index[count]) for count in counts])
        if rows > counts[-1]:
            costs.append(_extrapolate(counts, costs, rows))
            counts.append(rows)
        fitted_s: list[float] = np.interp(np.arange(rows + 1), counts, costs).tolist()
        fitted_s[0] = 0.0
        return fitted_s


def _isotonic(points: Sequence[Estimate]) -> list[float]:
    """The never falling seconds nearest to the estimates, by squares weighted with the inverse
    variance; pooling adjacent violators (Ayer et al., 1955)."""
    pools: list[tuple[float, float, int]] = []  # log, weight, number of points
    for point in points:
        log, weight, count = point.log, 1 / (point.variance + SHAPE_DRIFT), 1
        while pools and pools[-1][0] > log:
            other, other_weight, others = pools.pop()
            log = (log * weight + other * other_weight) / (weight + other_weight)
            weight, count = weight + other_weight, count + others
        pools.append((log, weight, count))
    return [math.exp(log) for log, _, count in pools for _ in range(count)]


def _extrapolate(counts: Sequence[int], costs: Sequence[float], rows: int) -> float:
    """Seconds beyond the last known row count, by the slope at the end or that of the whole curve,
    whichever is steeper."""
    if len(counts) == 1:
        return costs[0] * rows / counts[0]
    slope, mean_slope = (
        (costs[-1] - costs[i]) / (counts[-1] - counts[i]) for i in (len(counts) - 2, 0)
    )
    return costs[-1] + max(slope, mean_slope) * (rows - counts[-1])


@dataclass(slots=True)
class TokenCost:
    """Seconds of a token when many are evaluated in one call: an exponential moving average."""

    token_s: float = 0.0

    @property
    def is_known(self) -> bool:
        return self.token_s > 0

    def observe(self, tokens: int, took_s: float) -> None:
        """Learn from a call with so many tokens."""
        token_s = took_s / tokens
        if not self.is_known:
            self.token_s = token_s
        self.token_s += TOKEN_COST_WEIGHT * (token_s - self.token_s)
