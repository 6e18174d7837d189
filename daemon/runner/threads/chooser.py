"""With how many CPU threads does the next step run? Chosen by measurement, beside neighbours.

A neighbour is another busy process. All threads of a step wait for the slowest one at each of
hundreds of barriers, so one core that is shared halves the speed of all, while one thread less may
cost a tenth. Which of both is better depends on the neighbour, so it is measured: while there is
one, single counts are tried for a moment, and the fastest one stays. Without a neighbour all
threads decode, and nothing is tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Cores that other processes keep busy. Between both figures nothing changes without a trial; the
# daemon's own front takes up to a quarter of a core at full speed (measured on 2 cores).
QUIET_CORES = 0.25
BUSY_CORES = 0.35
MIN_TRIAL_STEPS = 3
MIN_TRIAL_S = 0.06  # a busy neighbour comes and goes every few milliseconds: time slices of Linux
LONG_TRIAL_S = 0.4  # after which a trial of fewer steps is judged, too
MEAN_S = 0.15  # time constant of the mean with the present count, an exponential moving average
STALE_S = 1.0  # without a step, after which the mean is measured anew
MIN_GAIN = 0.03  # share of the time that another count must save
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 4.0
"""Between two trials: a trial that was lost doubles the pause, from the first to the last value.
A trial of 0.06 s that is half as fast costs 1 % of the time then."""


@dataclass(slots=True)
class MeanStep:
    """Seconds per unit of work, over the last steps."""

    work: float = 0.0
    took_s: float = 0.0

    def add(self, work: float, took_s: float, *, forgets: bool) -> None:
        keep = math.exp(-took_s / MEAN_S) if forgets else 1.0
        self.work = keep * self.work + work
        self.took_s = keep * self.took_s + took_s

    @property
    def seconds(self) -> float:
        return self.took_s / self.work if self.work else math.inf


@dataclass(slots=True)
class ThreadTrial:
    """A count that is tried, and what its steps have taken."""

    threads: int
    mean: MeanStep
    steps: int = 0

    @property
    def is_over(self) -> bool:
        if self.steps >= MIN_TRIAL_STEPS:
            return self.mean.took_s >= MIN_TRIAL_S
        return self.steps > 0 and self.mean.took_s >= LONG_TRIAL_S


class ThreadChooser:
    """The number of threads of one kind of step: decode steps, or steps with prompt rows."""

    def __init__(self, most: int) -> None:
        """`most`: threads of an undisturbed step, one for each core that may decode."""
        self._most = most
        self.threads = most
        """The present number, but for a trial."""
        self._mean = MeanStep()
        self._trial: ThreadTrial | None = None
        self._next_trial_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self.has_neighbour = False
        """Whether times of steps are needed."""
        self._tries_fewer = True  # in the next trial, where both directions are possible
        self._last_s = -math.inf

    def choose(self, now_s: float, others: float) -> int:
        """Threads of the next step. `others`: cores that other processes keep busy now."""
        if others < QUIET_CORES:
            self.has_neighbour, self._trial = False, None
            self._use(self._most, now_s)
            return self._most
        if now_s > self._last_s + STALE_S:
            self._mean, self._trial = MeanStep(), None
        if not self.has_neighbour and others >= BUSY_CORES:
            self.has_neighbour, self._next_trial_s = True, now_s
            self._mean = MeanStep()  # steps before it do not count
        is_due = self.has_neighbour and now_s >= self._next_trial_s
        if self._trial is None and is_due and self._mean.took_s >= MIN_TRIAL_S:
            self._trial = ThreadTrial(self._candidate(others), MeanStep())
        return self._trial.threads if self._trial else self.threads

    def observe(self, now_s: float, work: float, took_s: float) -> None:
        """A step with the chosen threads has ended. `work`: what it would take undisturbed, in any
        unit that is the same for all steps of this kind."""
        self._last_s, trial = now_s, self._trial
        if trial is None:
            self._mean.add(work, took_s, forgets=True)
            return
        trial.steps += 1
        trial.mean.add(work, took_s, forgets=False)
        if trial.is_over:
            self._judge(trial, now_s)

    def _candidate(self, others: float) -> int:
        """Another count than the present one, in turns a lower and a higher one.

        While all cores decode, each neighbour shares one, and gets about half of it.
        """
        if self.threads == self._most:
            return max(1, min(self._most - 1, self._most - round(2 * others)))
        if self._tries_fewer and self.threads > 1:
            return self.threads - 1
        return self.threads + 1

    def _judge(self, trial: ThreadTrial, now_s: float) -> None:
        self._trial, self._tries_fewer = None, not self._tries_fewer
        if trial.mean.seconds < (1 - MIN_GAIN) * self._mean.seconds:
            self._use(trial.threads, now_s)
            self._mean = trial.mean
            return
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        self._next_trial_s = now_s + self._pause_s

    def _use(self, threads: int, now_s: float) -> None:
        if threads != self.threads:
            self.threads, self._mean = threads, MeanStep()
            self._pause_s = FIRST_PAUSE_S
            self._next_trial_s = now_s + self._pause_s
