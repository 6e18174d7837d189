"""How often were models loaded, unloaded for others, and refused since the daemon started?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

IDLE, WAITED = "idle", "waited"  # kinds of evictions: of an idle model, or after its last request


@dataclass(slots=True)
class PoolCounters:
    """Sums over the life of the daemon, by names of models."""

    loads: Counter[str] = field(default_factory=Counter)
    load_s: dict[str, float] = field(default_factory=dict)  # seconds of all loads
    evictions: Counter[tuple[str, str]] = field(default_factory=Counter)  # by model and kind
    refusals: Counter[str] = field(default_factory=Counter)  # plans that cannot fit

    def loaded(self, model: str, took_s: float) -> None:
        """A model has come up."""
        self.loads[model] += 1
        self.load_s[model] = self.load_s.get(model, 0.0) + took_s

    def evicted(self, model: str, *, is_busy: bool) -> None:
        """A model goes for another one."""
        self.evictions[model, WAITED if is_busy else IDLE] += 1
