"""What is known about this machine with these models; it outlives the process."""

from __future__ import annotations

from dataclasses import dataclass, field

from .acceptance import Acceptance
from .step_cost import StepCost, TokenCost

INITIAL_PREFILL_SHARE = 0.3  # of a draft step: a token of a text, while that is not measured


@dataclass(slots=True)
class SpeculationProfile:
    """Costs, and how often guesses are right."""

    verify: StepCost = field(default_factory=StepCost)  # by rows of the target
    draft: StepCost = field(default_factory=StepCost)  # by rows of the drafter
    prefill: TokenCost = field(default_factory=TokenCost)  # of the drafter with a text
    acceptance: Acceptance = field(default_factory=Acceptance)

    def prefill_s(self, tokens: int) -> float:
        """What the drafter needs to take in so many tokens of a text."""
        known = self.prefill.is_known
        token_s = self.prefill.token_s if known else INITIAL_PREFILL_SHARE * self.draft.seconds(1)
        return tokens * token_s
