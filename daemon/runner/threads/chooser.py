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
MIN_STEPS = 3
MIN_TRIAL_S = 0.06  # a busy neighbour comes and goes every few milliseconds: time slices of Linux
MAX_TRIAL_S = 0.4  # after which a trial is judged however uncertain it is
CERTAIN = 2.0  # standard errors between both means, from which on a trial is judged
MEAN_S = 0.3  # time constant of the mean with the present count, an exponential moving average
STALE_S = 1.0  # without a step, after which the mean is measured anew
MIN_GAIN = 0.03  # share of the time that another count must save
FIRST_PAUSE_S, LAST_PAUSE_S = 0.3, 4.0
"""Between two trials: a trial that was lost doubles the pause, from the first to the last value.
A trial of 0.06 s that is half as fast costs 1 % of the time then."""


@dataclass(slots=True)
class StepTimes:
    """Seconds per unit of work, over the last steps: their mean, and how certain it is.

    One step in fifty may take ten times as long as the others, when a neighbour gets a time slice,
    so the mean of a few steps says little.
    """

    steps: int = 0
    work: float = 0.0
    took_s: float = 0.0
    _work_squared: float = 0.0
    _took_squared: float = 0.0
    _product: float = 0.0

    def add(self, work: float, took_s: float, *, forgets: bool) -> None:
        keep = math.exp(-took_s / MEAN_S) if forgets else 1.0
        self.steps += 1
        self.work = keep * self.work + work
        self.took_s = keep * self.took_s + took_s
        self._work_squared = keep * self._work_squared + work**2
        self._took_squared = keep * self._took_squared + took_s**2
        self._product = keep * self._product + work * took_s

    @property
    def mean_s(self) -> float:
        return self.took_s / self.work if self.work else math.inf

    @property
    def error_s(self) -> float:
        """Standard error of the mean: that of a ratio of two sums (Cochran, Sampling Techniques,
        1977, 6.4)."""
        mean_s = self.mean_s
        squares = (
            self._took_squared - 2 * mean_s * self._product + mean_s**2 * self._work_squared
        )
        return math.sqrt(max(squares, 0.0)) / self.work

    @property
    def are_enough(self) -> bool:
        """To be compared: several steps, or one that is long."""
        if self.steps >= MIN_STEPS:
            return self.took_s >= MIN_TRIAL_S
        return self.steps > 0 and self.took_s >= MAX_TRIAL_S


@dataclass(slots=True)
class ThreadTrial:
    """A count that is tried, and what its steps have taken."""

    threads: int
    times: StepTimes


class ThreadChooser:
    """The number of threads of one kind of step: decode steps, or steps with prompt rows."""

    def __init__(self, most: int) -> None:
        """`most`: threads of an undisturbed step, one for each core that may decode."""
        self._most = most
        self.threads = most
        """The present number, but for a trial."""
        self._times = StepTimes()
        self._trial: ThreadTrial | None = None
        self._next_trial_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self.has_neighbour = False
        """Whether times of steps are needed."""
        self._tries_fewer = True  # in the next trial, where both directions are possible
        self._last_s = -math.inf
        self._last_threads = most

    def choose(self, now_s: float, others: float) -> int:
        """Threads of the next step. `others`: cores that other processes keep busy now."""
        if others < QUIET_CORES:
            self.has_neighbour, self._trial = False, None
            self._use(self._most, now_s)
            return self._most
        if now_s > self._last_s + STALE_S:
            self._times, self._trial = StepTimes(), None
        if not self.has_neighbour and others >= BUSY_CORES:
            self.has_neighbour, self._next_trial_s = True, now_s
            self._times = StepTimes()  # steps before it do not count
        is_due = self.has_neighbour and now_s >= self._next_trial_s
        if self._trial is None and is_due and self._times.are_enough:
            self._trial = ThreadTrial(self._candidate(others), StepTimes())
        return self._trial.threads if self._trial else self.threads

    def observe(self, now_s: float, work: float, took_s: float) -> None:
        """A step with the chosen threads has ended. `work`: what it would take undisturbed, in any
        unit that is the same for all steps of this kind."""
        self._last_s, trial = now_s, self._trial
        threads = trial.threads if trial else self.threads
        if threads != self._last_threads:
            self._last_threads = threads
            if took_s < MAX_TRIAL_S:
                return  # until its time slice ends, a neighbour stays on the core that is needed
        if trial is None:
            self._times.add(work, took_s, forgets=True)
            return
        trial.times.add(work, took_s, forgets=False)
        if self._is_over(trial):
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

    def _is_over(self, trial: ThreadTrial) -> bool:
        if not trial.times.are_enough:
            return False
        if trial.times.took_s >= MAX_TRIAL_S:
            return True
        difference_s = abs(trial.times.mean_s - (1 - MIN_GAIN) * self._times.mean_s)
        return difference_s >= CERTAIN * math.hypot(trial.times.error_s, self._times.error_s)

    def _judge(self, trial: ThreadTrial, now_s: float) -> None:
        self._trial, self._tries_fewer = None, not self._tries_fewer
        if trial.times.mean_s < (1 - MIN_GAIN) * self._times.mean_s:
            self._use(trial.threads, now_s)
            self._times = trial.times
            return
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        self._next_trial_s = now_s + self._pause_s

    def _use(self, threads: int, now_s: float) -> None:
        if threads != self.threads:
            self.threads, self._times = threads, StepTimes()
            self._pause_s = FIRST_PAUSE_S
            self._next_trial_s = now_s + self._pause_s
