"""What did speculative decoding do, for one stream or all, and how good were the forecasts?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ...protocol import DrafterCounts, DrafterStats, SpeculationReport


@dataclass(slots=True)
class SpeculationStats:
    """Drafted and accepted tokens, and the time that they took and saved."""

    drafter: str = ""
    drafted: int = 0
    accepted: int = 0
    num_drafts: int = 0  # steps in which at least one draft token was verified
    took_s: float = 0.0  # steps, including drafting
    plain_s: float = 0.0  # expected for the same tokens without drafts

    def add(self, *, drafted: int, accepted: int, took_s: float, plain_s: float) -> None:
        """Count a step of one stream."""
        self.drafted += drafted
        self.accepted += accepted
        self.num_drafts += drafted > 0
        self.took_s += took_s
        self.plain_s += plain_s

    def of_drafter(self) -> DrafterStats:
        """The same for the wire."""
        return DrafterStats(
            name=self.drafter,
            drafts=self.num_drafts,
            drafted=self.drafted,
            accepted=self.accepted,
            took_ns=int(self.took_s * 1e9),
            plain_ns=int(self.plain_s * 1e9),
        )

    def report(self) -> SpeculationReport:
        return SpeculationReport(
            drafter=self.drafter,
            drafted=self.drafted,
            accepted=self.accepted,
            mean_length=self.drafted / self.num_drafts if self.num_drafts else 0.0,
            speedup=self.plain_s / self.took_s if self.took_s else 1.0,
        )


@dataclass(slots=True)
class DraftOutcomes:
    """How many drafts there were, by drafter, length and accepted tokens."""

    counts: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    def add(self, drafter: str, *, length: int, accepted: int) -> None:
        """Count a draft of which `length` tokens, at least one, were verified."""
        self.counts[drafter, length, accepted] += 1

    def by_depth(self) -> tuple[DrafterCounts, ...]:
        """The same by drafter and depth."""
        verified: dict[str, list[int]] = {}
        accepted: dict[str, list[int]] = {}
        for (drafter, length, right), count in self.counts.items():
            tried, taken = verified.setdefault(drafter, []), accepted.setdefault(drafter, [])
            missing = length - len(tried)
            tried.extend([0] * missing)
            taken.extend([0] * missing)
            for depth in range(min(right + 1, length)):
                tried[depth] += count
                taken[depth] += count * (depth < right)
        return tuple(
            DrafterCounts(name, tuple(counts), tuple(accepted[name]))
            for name, counts in sorted(verified.items())
        )


@dataclass(slots=True)
class ForecastStats:
    """Expected time of steps without prompt rows, and the absolute error of that."""

    expected_s: float = 0.0
    error_s: float = 0.0

    def add(self, expected_s: float, took_s: float) -> None:
        self.expected_s += expected_s
        self.error_s += abs(took_s - expected_s)
