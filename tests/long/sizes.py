"""How large is each long test?

`OUTRIDER_LONG=full` takes the sizes by which a release is judged, which run for hours; without it
the tests take some minutes in all. `OUTRIDER_LONG_<FIELD>` sets one size, such as
`OUTRIDER_LONG_REQUESTS=100000`, and `OUTRIDER_LONG_SEED` the seed of everything that is random.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

FULL = "full"


@dataclass(frozen=True, slots=True)
class LongSizes:
    """Counts of repetitions, seconds, and shares by which a figure may grow."""

    kills: int = 6  # of the daemon, and of the command, in each kind of work
    runner_kills: int = 10  # of a runner under its streams
    deaths: int = 6  # of the daemon, after which no process of it may be left
    requests: int = 4_000  # random ones
    files: int = 60  # mutated GGUF files
    soak_s: float = 300.0
    rss_growth: float = 0.05  # of a process, from the end of the warm-up to the end of the soak
    p99_growth: float = 1.0  # from the first to the last part of the soak; neighbours disturb it
    seed: int = 21


FULL_SIZES = LongSizes(
    kills=200,
    runner_kills=100,
    deaths=50,
    requests=100_000,
    files=3_000,
    soak_s=3600.0,
    rss_growth=0.01,
    p99_growth=0.10,
)


def read_sizes() -> LongSizes:
    """The sizes of this run."""
    base = FULL_SIZES if os.environ.get("OUTRIDER_LONG") == FULL else LongSizes()
    chosen = {}
    for field in fields(LongSizes):
        default = getattr(base, field.name)
        text = os.environ.get(f"OUTRIDER_LONG_{field.name.upper()}")
        chosen[field.name] = type(default)(text) if text else default
    return LongSizes(**chosen)


SIZES = read_sizes()
