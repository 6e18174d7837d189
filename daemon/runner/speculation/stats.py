"""What reading ahead did, for one stream or for all, and how well its costs were forecast."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol import SpeculationReport


@dataclass(slots=True)
class SpeculationStats:
    """Guesses, and the time that they took and saved."""

    drafter: str = ""
    drafted: int = 0
    accepted: int = 0
    times: int = 0  # that something was drafted
    took_s: float = 0.0  # steps, with their drafting
    plain_s: float = 0.0  # what the same tokens would have taken without

    def add(self, *, drafted: int, accepted: int, took_s: float, plain_s: float) -> None:
        """A step of one stream."""
        self.drafted += drafted
        self.accepted += accepted
        self.times += drafted > 0
        self.took_s += took_s
        self.plain_s += plain_s

    def report(self) -> SpeculationReport:
        return SpeculationReport(
            drafter=self.drafter,
            drafted=self.drafted,
            accepted=self.accepted,
            mean_length=self.drafted / self.times if self.times else 0.0,
            speedup=self.plain_s / self.took_s if self.took_s else 1.0,
        )


@dataclass(slots=True)
class ForecastStats:
    """How good the costs are: of steps without a prompt, in which nothing is new."""

    expected_s: float = 0.0
    misjudged_s: float = 0.0

    def add(self, expected_s: float, took_s: float) -> None:
        self.expected_s += expected_s
        self.misjudged_s += abs(took_s - expected_s)
