"""How much time speculative decoding may lose."""

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
    """What reading ahead may still lose: a share of the time, and a little of what it has won.

    Everything that a step takes beyond plain decoding is paid from it, thinking included, and what
    its right guesses save is put in. So whatever the reason why expectations are not met, reading
    ahead ends by itself when it has lost a step, and is tried again now and then.

    Where steps are short, to think of guesses is dear by itself. So whoever thought and verified
    nothing rests, until that was a small share of the time.
    """

    balance_s: float = 0.0
    few_s: float = 0.0  # what counts as little: a plain step, or what guesses took just now
    idle_s: float = 0.0  # of thinking of which nothing came, beyond its share so far

    def settle(
        self, plain_s: float, extra_s: float, *, idle_s: float = 0.0, streams: int = 1
    ) -> None:
        """A step of so many streams is over that took `extra_s` longer than a plain one would have;
        of that, `idle_s` was thinking of which nothing came. The more streams there are, the less
        is a matter of luck."""
        swing = max(REGRET_STEPS / math.sqrt(streams), 1.0)
        once_s = max(plain_s, min(extra_s, MAX_DEBT * plain_s))
        self.few_s = max(swing * once_s, REGRET_FADING * self.few_s)
        self._add(REGRET_SHARE * plain_s - extra_s)
        share_s = IDLE_SHARE * plain_s
        self.idle_s = min(max(self.idle_s + idle_s - share_s, 0.0), MAX_PAUSE_STEPS * share_s)

    def credit(self, saved_s: float) -> None:
        """Right guesses have saved so much."""
        self._add(saved_s)

    def _add(self, more_s: float) -> None:
        self.balance_s = max(-MAX_DEBT * self.few_s, min(self.balance_s + more_s, self.few_s))

    @property
    def is_paused(self) -> bool:
        """Whether even to think of guesses would be too much."""
        return self.idle_s > 0 or self.balance_s < -self.few_s

    def can_spend(self, loss_s: float) -> bool:
        """Whether a try that may lose so much may be made."""
        return loss_s <= self.balance_s
