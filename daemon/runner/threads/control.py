"""How many threads do target and drafters get for a step? Joins chooser, neighbours and binding."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ..speculation.profile import SpeculationProfile
from .binding import ThreadBinding
from .chooser import ThreadChooser
from .neighbours import Neighbours


class StepThreads(Protocol):
    """Called by the engine around each step."""

    def prepare(self, *, is_prompt: bool) -> None:
        """A step comes next: with prompt rows, or only with rows of decoding streams."""

    def observe(self, *, rows: int, took_s: float) -> None:
        """The decode of that step has ended. `rows`: all of them."""


class FixedThreads(StepThreads):
    """The number stays as it was loaded."""

    def prepare(self, *, is_prompt: bool) -> None:
        return

    def observe(self, *, rows: int, took_s: float) -> None:
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
        self._is_prompt = False
        self._decode, self._prompt = ThreadChooser(most), ThreadChooser(most)
        profile.use_threads(most)
        binding.bind_decoding()

    def prepare(self, *, is_prompt: bool) -> None:
        now_s = self._clock()
        self._is_prompt = is_prompt
        chooser = self._prompt if is_prompt else self._decode
        self._use(chooser.choose(now_s, self._neighbours.cores(now_s)))

    def observe(self, *, rows: int, took_s: float) -> None:
        if self._is_prompt:
            self._prompt.observe(self._clock(), rows, took_s)
        elif self._decode.has_neighbour:  # otherwise nobody asks for the mean
            self._decode.observe(self._clock(), self._profile.relative_cost(rows), took_s)

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
