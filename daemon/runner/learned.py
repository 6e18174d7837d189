"""What is known about this machine with these models; it outlives the process."""

from __future__ import annotations

from dataclasses import dataclass, field

from .acceptance import Acceptance
from .curve import Curve, Rate

FIRST_CATCH_UP = 0.3  # of a draft step: a token of a text, while that is not measured


@dataclass(slots=True)
class Learned:
    """Costs, and how often guesses are right."""

    verify: Curve = field(default_factory=Curve)  # by rows of the target
    draft: Curve = field(default_factory=Curve)  # by rows of the drafter
    catch_up: Rate = field(default_factory=Rate)  # of the drafter with a text
    acceptance: Acceptance = field(default_factory=Acceptance)

    def catch_up_s(self, tokens: int) -> float:
        """What the drafter needs to take in so many tokens of a text."""
        known = self.catch_up.is_known
        token_s = self.catch_up.token_s if known else FIRST_CATCH_UP * self.draft.seconds(1)
        return tokens * token_s
