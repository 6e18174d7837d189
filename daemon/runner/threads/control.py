"""How many threads do target and drafters get for a step? Joins chooser, neighbours and binding."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ..speculation.profile import SpeculationProfile
from .binding import ThreadBinding
from .chooser import ThreadChooser
from .neighbours import Neighbours

FEW_ROWS = 32
"""Rows of a step, up to which reading the weights takes most of its time; with more, computing
does. Both kinds of step may run best with different numbers of threads."""


class StepThreads(Protocol):
    """Called by the engine around each step."""

    def prepare(self, *, rows: int) -> None:
        """A step with so many rows, beside drafts, comes next."""

    def observe(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        """The decode of that step has ended. `rows`: all of them, drafts included."""


class FixedThreads(StepThreads):
    """The number stays as it was loaded."""

    def prepare(self, *, rows: int) -> None:
        return

    def observe(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        return


class ThreadControl(StepThreads):
    """Fewer threads beside busy processes, where that is faster."""

    def __init__(
        self,
        most: int,
        apply: Callable[[int], None],
        profile: SpeculationProfile,
        binding: ThreadBinding,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`apply` gives all contexts a number of threads, `most` at first."""
        self._apply = apply
        self._profile = profile
        self._binding = binding
        self._neighbours = Neighbours(binding.cpus)
        self._clock = clock
        self._most = self.threads = most
        self._few, self._many = ThreadChooser(most), ThreadChooser(most)
        self._chooser = self._few
        profile.use_threads(most)
        binding.bind_decoding()

    def prepare(self, *, rows: int) -> None:
        now_s = self._clock()
        self._chooser = self._few if rows <= FEW_ROWS else self._many
        load = self._neighbours.load(now_s, is_urgent=self._chooser.is_urgent)
        self._use(self._chooser.choose(now_s, load))

    def observe(self, *, rows: int, prompt_rows: int, took_s: float) -> None:
        if self._chooser is self._many:
            self._many.observe(self._clock(), rows, took_s)
        elif not prompt_rows:  # a prompt row costs less than another: most have no outputs
            self._few.observe(self._clock(), self._profile.relative_cost(rows), took_s)

    def _use(self, threads: int) -> None:
        if threads == self.threads:
            return
        self.threads = threads
        self._apply(threads)
        self._profile.use_threads(threads)
        if threads < self._most:
            self._binding.free_all()
        else:
            self._binding.bind_decoding()
