"""What has been measured of this machine with these models?"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, field

from .acceptance import Acceptance
from .step_cost import StepCost, TokenCost

INITIAL_PREFILL_SHARE = 0.3
"""Drafter prefill of one token until it is measured, as a share of a draft forward of one row."""

MAX_DEFERRED = 32
"""Steps whose measurement waits until a cost is asked for; older ones are dropped."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """The costs with one number of threads."""

    verify: StepCost
    draft: StepCost
    prefill: TokenCost
    prompt: TokenCost


@dataclass(slots=True)
class SpeculationProfile:
    """Costs and acceptance rates; stored on disk, so it outlives the process.

    Costs are those with the present number of CPU threads (`use_threads`).
    """

    verify: StepCost = field(default_factory=StepCost)  # by rows of the target
    draft: StepCost = field(default_factory=StepCost)  # by rows of the drafter
    prefill: TokenCost = field(default_factory=TokenCost)  # of the drafter
    prompt: TokenCost = field(default_factory=TokenCost)  # of the target, beside decode rows
    acceptance: Acceptance = field(default_factory=Acceptance)
    threads: int = 0  # 0: not said yet
    by_threads: dict[int, StepCosts] = field(default_factory=dict)  # of other numbers of threads
    deferred: deque[tuple[int, int, float]] = field(
        default_factory=lambda: deque(maxlen=MAX_DEFERRED)
    )

    def observe_step(self, *, rows: int, prompt_rows: int, took_s: float) -> float | None:
        """Learn from a decode of the target with `rows` in all; returns the expected seconds.

        Prompt rows cost less than decode rows: most have no outputs, and they share one KV prefix.
        So a step with some is forecast by nothing (None). It teaches what its prompt rows add to
        the decode rows, draft rows included, and says nothing about `verify`.
        """
        if not prompt_rows:
            return self.verify.observe(rows, took_s)
        self.verify.interrupt()
        decode_rows = rows - prompt_rows
        if decode_rows and self.verify.is_known:
            added_s = took_s - self.verify.measured_s(decode_rows)
            self.prompt.observe(prompt_rows, max(added_s, 0.0))
        return None

    def defer_step(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        """Keep a measurement for `learn_deferred`: to learn at once takes 0.1 ms after a decode,
        which has evicted the code from the CPU's cache."""
        self.deferred.append((rows, prompt_rows, took_s))

    def learn_deferred(self) -> None:
        """Learn from the kept measurements, in their order."""
        while self.deferred:
            rows, prompt_rows, took_s = self.deferred.popleft()
            self.observe_step(rows=rows, prompt_rows=prompt_rows, took_s=took_s)

    @property
    def costs(self) -> StepCosts:
        """With the present number of threads."""
        return StepCosts(self.verify, self.draft, self.prefill, self.prompt)

    @property
    def undisturbed(self) -> StepCosts:
        """With the most threads, which decode where no other process is busy."""
        return max([(self.threads, self.costs), *self.by_threads.items()], key=lambda it: it[0])[1]

    def use_threads(self, threads: int) -> None:
        """From now on steps run with so many threads. A new number starts with the present costs,
        whose common speed it soon corrects."""
        if threads == self.threads:
            return
        if self.threads:
            self.learn_deferred()
            self.by_threads[self.threads] = self.costs
            found = self.by_threads.pop(threads, None) or copy.deepcopy(self.costs)
            self.verify, self.draft = found.verify, found.draft
            self.prefill, self.prompt = found.prefill, found.prompt
        self.threads = threads

    def relative_cost(self, rows: int) -> float:
        """What a decode of so many rows costs undisturbed, in decodes of one row."""
        verify = self.undisturbed.verify
        return verify.steady_s(rows) / verify.steady_s(1) if verify.is_known else 1.0

    def prefill_s(self, tokens: int) -> float:
        """Expected seconds of a drafter prefill of so many tokens."""
        is_known = self.prefill.is_known
        token_s = self.prefill.token_s if is_known else INITIAL_PREFILL_SHARE * self.draft.next_s(1)
        return tokens * token_s
