"""How often were models loaded, unloaded for others, and refused since the daemon started?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from ..protocol import Stats
from .stats_sum import add_stats, without_levels

IDLE, WAITED = "idle", "waited"  # kinds of evictions: of an idle model, or after its last request
# Entries of a table: models of which figures are kept. The one that changed longest ago goes first,
# so that neither memory nor the number of time series grows with the names that were ever used.
MAX_MODELS = 100

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def put_newest(table: dict[Key, Value], key: Key, value: Value) -> None:
    """Set an entry, and forget those that changed longest ago if there are too many."""
    table.pop(key, None)
    table[key] = value
    while len(table) > MAX_MODELS:
        del table[next(iter(table))]


@dataclass(slots=True)
class PoolCounters:
    """Sums over the life of the daemon, by names of models."""

    loads: Counter[str] = field(default_factory=Counter)
    load_s: dict[str, float] = field(default_factory=dict)  # seconds of all loads
    failures: Counter[str] = field(default_factory=Counter)  # loads that failed
    evictions: Counter[tuple[str, str]] = field(default_factory=Counter)  # by model and kind
    refusals: Counter[str] = field(default_factory=Counter)  # plans that cannot fit
    deaths: Counter[str] = field(default_factory=Counter)  # runners that ended by themselves
    past: dict[str, Stats] = field(default_factory=dict)  # of runners that are gone

    def loaded(self, model: str, took_s: float) -> None:
        """A model has come up."""
        put_newest(self.loads, model, self.loads[model] + 1)
        put_newest(self.load_s, model, self.load_s.get(model, 0.0) + took_s)

    def failed(self, model: str) -> None:
        """A model did not come up."""
        put_newest(self.failures, model, self.failures[model] + 1)

    def refused(self, model: str) -> None:
        """A model cannot fit."""
        put_newest(self.refusals, model, self.refusals[model] + 1)

    def evicted(self, model: str, *, is_busy: bool) -> None:
        """A model goes for another one."""
        key = model, WAITED if is_busy else IDLE
        put_newest(self.evictions, key, self.evictions[key] + 1)

    def ended(self, model: str, *, has_died: bool) -> None:
        """The runner of a model ends, or has ended without being told to."""
        put_newest(self.deaths, model, self.deaths[model] + has_died)

    def keep(self, model: str, stats: Stats) -> None:
        """The last figures of a runner that is gone."""
        put_newest(self.past, model, add_stats(self.past.get(model), without_levels(stats)))
