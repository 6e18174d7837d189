"""How are durations counted? As the cumulative buckets of a Prometheus histogram."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

from prometheus_client.utils import floatToGoString

# Upper bounds, seconds: of what a reader waits for, from a cached prompt to the load of a large
# model.
WAIT_BOUNDS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0),
)


class DurationHistogram:
    """Counts durations by upper bounds; an observation takes half a microsecond."""

    __slots__ = ("_bounds_s", "_counts", "total_s")

    def __init__(self, bounds_s: tuple[float, ...] = WAIT_BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self.total_s += seconds

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """As the text format has them."""
        return cumulate(self._bounds_s, self._counts)


def cumulate(bounds_s: tuple[float, ...], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Upper bound as text, and the number of durations up to it; the last bound is +Inf."""
    return list(zip(_names_of(bounds_s), map(float, accumulate(counts)), strict=True))


@cache
def _names_of(bounds_s: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(floatToGoString, bounds_s), "+Inf")
