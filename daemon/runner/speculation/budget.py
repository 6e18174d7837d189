"""How much time may speculative decoding lose?"""

from __future__ import annotations

import math
from dataclasses import dataclass

REGRET_SHARE = 0.01
"""Share of decoding time that speculative decoding may lose in the long run."""
REGRET_STEPS = 1.5
"""Plain steps that one stream may lose beyond that share before drafting pauses."""
REGRET_FADING = 0.9
"""Factor by which the allowance decays per step after a step that took longer than a plain one."""
MAX_DEBT = 5.0
"""Largest debt, in allowances; a larger one is forgiven."""
IDLE_SHARE = 0.005
"""Share of decoding time that planning without a verified draft may take."""
MAX_PAUSE_STEPS = 16
"""Longest pause after such planning, in plain steps."""


@dataclass(slots=True)
class RegretBudget:
    """Bounds the time that speculative decoding loses against plain decoding, whatever the cause.

    The time that a step takes beyond a plain one is charged, planning included; the time that
    accepted drafts save is credited. Balance and debt are bounded by an allowance of about one
    step, so drafting pauses soon after it stops saving time, and resumes as REGRET_SHARE accrues.

    Pauses drafting while planning time that produced no verified draft exceeds IDLE_SHARE of step
    time.
    """

    balance_s: float = 0.0
    allowance_s: float = 0.0  # largest balance
    idle_planning_s: float = 0.0  # planning time without a verified draft, beyond its share

    def charge(
        self, plain_s: float, extra_s: float, *, idle_s: float = 0.0, streams: int = 1
    ) -> None:
        """A step of `streams` streams took `extra_s` longer than a plain one of `plain_s`.

        `idle_s`: the part of `extra_s` that was planning without a verified draft. The allowance
        shrinks with the root of the number of streams, as the deviation of a mean does.
        """
        allowance_steps = max(REGRET_STEPS / math.sqrt(streams), 1.0)
        step_s = max(plain_s, min(extra_s, MAX_DEBT * plain_s))
        self.allowance_s = max(allowance_steps * step_s, REGRET_FADING * self.allowance_s)
        self.credit(REGRET_SHARE * plain_s - extra_s)
        share_s = IDLE_SHARE * plain_s
        excess_s = max(self.idle_planning_s + idle_s - share_s, 0.0)
        self.idle_planning_s = min(excess_s, MAX_PAUSE_STEPS * share_s)

    def credit(self, saved_s: float) -> None:
        """Add time that accepted drafts saved."""
        lowest_s = -MAX_DEBT * self.allowance_s
        self.balance_s = max(lowest_s, min(self.balance_s + saved_s, self.allowance_s))

    @property
    def is_paused(self) -> bool:
        """Whether not even planning is allowed."""
        return self.idle_planning_s > 0 or self.balance_s < -self.allowance_s

    def can_spend(self, loss_s: float) -> bool:
        """Whether a probe that may lose so much is allowed."""
        return loss_s <= self.balance_s
