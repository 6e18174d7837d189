"""What has been measured of this machine with these models?"""

from __future__ import annotations

from dataclasses import dataclass, field

from .acceptance import Acceptance
from .step_cost import StepCost, TokenCost

INITIAL_PREFILL_SHARE = 0.3
"""Drafter prefill of one token until it is measured, as a share of a draft forward of one row."""


@dataclass(slots=True)
class SpeculationProfile:
    """Costs and acceptance rates; stored on disk, so it outlives the process."""

    verify: StepCost = field(default_factory=StepCost)  # by rows of the target
    draft: StepCost = field(default_factory=StepCost)  # by rows of the drafter
    prefill: TokenCost = field(default_factory=TokenCost)  # of the drafter
    acceptance: Acceptance = field(default_factory=Acceptance)

    def prefill_s(self, tokens: int) -> float:
        """Expected seconds of a drafter prefill of so many tokens."""
        is_known = self.prefill.is_known
        token_s = self.prefill.token_s if is_known else INITIAL_PREFILL_SHARE * self.draft.next_s(1)
        return tokens * token_s
