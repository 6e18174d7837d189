"""How many threads decode on a simulated machine, while neighbours come and go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from outrider.daemon.runner.threads.chooser import ThreadChooser
from outrider.daemon.runner.threads.neighbours import (
    MIN_WINDOW_S,
    WINDOW_S,
    CpuReading,
    NeighbourLoad,
    cores_of_others,
)

pytestmark = pytest.mark.unit

WORK_S = 0.008  # of a step on one core


@dataclass
class SimulatedMachine:
    """Cores and busy neighbours, as the 2-core measurements show them: each thread that shares its
    core gets half of it, and all threads wait for the slowest."""

    cores: int
    step_s: float = WORK_S
    serial: float = 0.4  # share of a step that more threads do not shorten
    now_s: float = 100.0
    used: list[tuple[float, int, float]] = field(default_factory=list)  # time, threads, seconds

    def step(self, threads: int, busy: int) -> float:
        """Seconds of a step."""
        shares_a_core = threads + busy > self.cores
        alone_s = self.step_s * (self.serial + (1 - self.serial) / threads)
        took_s = alone_s * (2.2 if shares_a_core else 1.0)
        self.now_s += took_s
        self.used.append((self.now_s, threads, took_s))
        return took_s

    def others(self, threads: int, busy: int) -> float:
        """Cores that the neighbours get."""
        left = self.cores - threads
        return min(busy, left) + max(busy - left, 0) / 2

    def rate(self, since_s: float) -> float:
        """Steps per second since then."""
        counted = [took_s for at_s, _, took_s in self.used if at_s >= since_s]
        return len(counted) / sum(counted)


def decode(
    chooser: ThreadChooser,
    machine: SimulatedMachine,
    for_s: float,
    busy: Callable[[float], int],
    *,
    seen_by_system: float = 1.0,
) -> None:
    """Steps for so many seconds. `busy`: neighbours at a time."""
    end_s = machine.now_s + for_s
    load = NeighbourLoad(machine.now_s, 0.0)  # a reading tells of the time before it
    while machine.now_s < end_s:
        if machine.now_s >= load.at_s + (MIN_WINDOW_S if chooser.is_urgent else WINDOW_S):
            others = seen_by_system * machine.others(chooser.threads, busy(machine.now_s))
            load = NeighbourLoad(machine.now_s, others + 0.1)  # 0.1: the front
        threads = chooser.choose(machine.now_s, load)
        took_s = machine.step(threads, busy(machine.now_s))
        chooser.observe(machine.now_s, 1.0, took_s)


@pytest.mark.parametrize("cores", [2, 4, 8, 16])
def test_nothing_is_tried_on_an_idle_machine(cores: int) -> None:
    machine, chooser = SimulatedMachine(cores), ThreadChooser(cores)
    decode(chooser, machine, 20.0, lambda _: 0)
    assert {threads for _, threads, _ in machine.used} == {cores}


@pytest.mark.parametrize(("cores", "busy", "best"), [(2, 1, 1), (4, 1, 3), (8, 2, 6), (8, 1, 7)])
def test_beside_neighbours_as_many_threads_decode_as_are_fastest(
    cores: int, busy: int, best: int
) -> None:
    machine, chooser = SimulatedMachine(cores), ThreadChooser(cores)
    decode(chooser, machine, 2.0, lambda _: 0)
    start_s = machine.now_s
    decode(chooser, machine, 1.0 if busy == 1 else 3.0, lambda _: busy)
    assert chooser.threads == best
    settled_s = machine.now_s
    decode(chooser, machine, 20.0, lambda _: busy)
    fixed = SimulatedMachine(cores)
    at_best = 1 / fixed.step(best, busy)
    assert machine.rate(settled_s) >= 0.95 * at_best
    assert machine.rate(start_s) >= 0.9 * at_best


def test_the_number_falls_back_within_half_a_second() -> None:
    machine, chooser = SimulatedMachine(2), ThreadChooser(2)
    decode(chooser, machine, 2.0, lambda _: 0)
    start_s = machine.now_s
    decode(chooser, machine, 3.0, lambda _: 1)
    fewer = [at_s for at_s, threads, _ in machine.used if threads == 1]
    assert fewer[0] - start_s < 0.5


def test_all_threads_decode_again_when_the_neighbour_is_gone() -> None:
    machine, chooser = SimulatedMachine(2), ThreadChooser(2)
    decode(chooser, machine, 5.0, lambda _: 1)
    assert chooser.threads == 1
    decode(chooser, machine, 2 * WINDOW_S, lambda _: 0)
    assert chooser.threads == 2


def test_a_neighbour_that_yields_is_outvoted_by_measurement() -> None:
    """One at nice 19 takes the core that is left free, but hardly disturbs two threads."""

    @dataclass
    class Yielding(SimulatedMachine):
        def step(self, threads: int, busy: int) -> float:
            return super().step(threads, 0)

    machine, chooser = Yielding(2), ThreadChooser(2)
    decode(chooser, machine, 30.0, lambda _: 1)
    counts = [threads for _, threads, _ in machine.used]
    assert counts.count(2) / len(counts) > 0.95
    assert chooser.threads == 2


def test_rare_long_steps_do_not_outvote_all_others() -> None:
    """Two threads lose 60 ms to a neighbour at nice 19 when they start, and in one step of 60."""

    @dataclass
    class Yielding(SimulatedMachine):
        serial: float = 0.75
        last_threads: int = 2

        def step(self, threads: int, busy: int) -> float:
            is_long = threads == 2 and (len(self.used) % 60 == 0 or self.last_threads == 1)
            self.now_s += 0.06 if is_long else 0.0
            self.last_threads = threads
            return super().step(threads, 0) + (0.06 if is_long else 0.0)

    machine, chooser = Yielding(2), ThreadChooser(2)
    decode(chooser, machine, 30.0, lambda _: 1)
    fixed = Yielding(2)
    at_best = max(1 / fixed.step(1, 1), 60 / (0.06 + 60 * fixed.step(2, 1)))
    assert machine.rate(0.0) >= 0.94 * at_best


def test_a_neighbour_that_comes_and_goes_costs_little() -> None:
    machine, chooser = SimulatedMachine(2), ThreadChooser(2)
    start_s = machine.now_s
    decode(chooser, machine, 30.0, lambda now_s: int(now_s) % 2)
    fixed = SimulatedMachine(2)
    one, two = 1 / fixed.step(1, 0), 1 / fixed.step(2, 0)
    assert machine.rate(start_s) >= 0.9 * (one + two) / 2


def test_slow_steps_are_judged_one_by_one() -> None:
    machine, chooser = SimulatedMachine(2, step_s=1.0), ThreadChooser(2)
    decode(chooser, machine, 12.0, lambda _: 1)
    assert chooser.threads == 1


def test_after_a_pause_old_steps_do_not_count() -> None:
    machine, chooser = SimulatedMachine(2), ThreadChooser(2)
    decode(chooser, machine, 1.0, lambda _: 1)
    machine.now_s += 60
    assert chooser.choose(machine.now_s, NeighbourLoad(machine.now_s, 1.0)) == chooser.threads
    decode(chooser, machine, 5.0, lambda _: 1)
    assert chooser.threads == 1


def test_others_are_what_is_busy_less_what_is_ours() -> None:
    assert cores_of_others(CpuReading(1.0, 10.0, 5.0), CpuReading(1.5, 11.0, 5.6)) == pytest.approx(
        0.8
    )
    assert cores_of_others(CpuReading(1.0, 10.0, 5.0), CpuReading(1.5, 10.1, 5.6)) == 0.0
    assert cores_of_others(CpuReading(1.0, 10.0, 5.0), CpuReading(1.0, 10.0, 5.0)) == 0.0
