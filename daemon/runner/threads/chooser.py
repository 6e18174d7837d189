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

from .neighbours import NeighbourLoad

# Cores that other processes keep busy. Between both figures nothing changes without a trial; the
# daemon's own front takes up to a quarter of a core at full speed (measured on 2 cores).
QUIET_CORES = 0.25
BUSY_CORES = 0.35
MIN_STEPS = 3
MIN_TRIAL_S = 0.06  # a busy neighbour comes and goes every few milliseconds: time slices of Linux
MAX_TRIAL_S = 0.4  # after which a trial is judged however uncertain it is
CERTAIN = 2.0  # standard errors between both means, from which on a trial is judged
MEAN_S = 0.3  # time constant of the mean with the present count, an exponential moving average
STALE_S = 0.1  # without such a step, after which the mean is measured anew
MIN_GAIN = 0.03  # share of the time that another count must save
MAX_TRIAL_SHARE = 0.02  # of the time that trials may cost
MIN_PAUSE_S, MAX_PAUSE_S = 0.3, 4.0  # between two trials
SLOW = 1.5  # times the mean: a slow step
URGENT_STEPS = 2  # slow ones in a row, after which the neighbours are looked for at once


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
        squares = self._took_squared - 2 * mean_s * self._product + mean_s**2 * self._work_squared
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
        self._times = StepTimes()  # with the present count, without trials
        self._window = StepTimes()  # the same since the last reading, or change to or from slow
        self._load = NeighbourLoad(-math.inf, 0.0)
        self._trial: ThreadTrial | None = None
        self._next_trial_s = 0.0
        self._has_neighbour = False
        self._tries_fewer = True  # in the next trial, where both directions are possible
        self._last_s = -math.inf
        self._last_threads = most
        self._slow_steps = 0  # in a row, while no neighbour is known

    @property
    def is_urgent(self) -> bool:
        """Whether the last steps hint at a neighbour that is not known yet."""
        return self._slow_steps >= URGENT_STEPS

    def choose(self, now_s: float, load: NeighbourLoad) -> int:
        """Threads of the next step."""
        if now_s > self._last_s + STALE_S:
            self._times, self._window, self._trial = StepTimes(), StepTimes(), None
        if load is not self._load:
            self._note(load, now_s)
        is_due = self._has_neighbour and now_s >= self._next_trial_s
        if self._trial is None and is_due and self._times.are_enough:
            self._trial = ThreadTrial(self._candidate(load.cores), StepTimes())
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
        if trial:
            trial.times.add(work, took_s, forgets=False)
            self._judge(trial, now_s)
            return
        is_slow = not self._has_neighbour and took_s > SLOW * work * self._times.mean_s
        if is_slow != bool(self._slow_steps):
            self._window = StepTimes()
        self._slow_steps = self._slow_steps + 1 if is_slow else 0
        self._times.add(work, took_s, forgets=True)
        self._window.add(work, took_s, forgets=False)

    def _note(self, load: NeighbourLoad, now_s: float) -> None:
        """A new reading: a neighbour may have come or gone."""
        self._load = load
        if load.cores < QUIET_CORES:
            self._has_neighbour, self._trial = False, None
            self._use(self._most, StepTimes())
        elif not self._has_neighbour and load.cores >= BUSY_CORES:
            self._has_neighbour, self._next_trial_s = True, now_s
            self._times = self._window  # earlier steps were undisturbed
        self._window, self._slow_steps = StepTimes(), 0

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
        """Keep the faster count, once it is certain which one that is."""
        tried, present = trial.times, self._times
        if not tried.are_enough:
            return
        saved_s = (1 - MIN_GAIN) * present.mean_s - tried.mean_s
        is_certain = abs(saved_s) >= CERTAIN * math.hypot(tried.error_s, present.error_s)
        if not is_certain and tried.took_s < MAX_TRIAL_S:
            return
        self._trial, self._tries_fewer = None, not self._tries_fewer
        slower, faster = (present, tried) if saved_s > 0 else (tried, present)
        lost_s = slower.took_s - slower.work * faster.mean_s
        pause_s = min(max(lost_s / MAX_TRIAL_SHARE, MIN_PAUSE_S), MAX_PAUSE_S)
        self._next_trial_s = now_s + pause_s
        if saved_s > 0:
            self._use(trial.threads, tried)

    def _use(self, threads: int, times: StepTimes) -> None:
        if threads != self.threads:
            self.threads, self._times = threads, times
