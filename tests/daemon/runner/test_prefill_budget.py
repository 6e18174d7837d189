"""Do prompt rows stretch the steps of decoding streams as far as they may, and no further?

The steps are simulated: decode rows cost what a table says, prompt rows a fixed time, with noise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from lab import seconds
from outrider.daemon.runner.prefill_budget import (
    INITIAL_ROWS,
    MAX_ROWS,
    MIN_ROWS,
    SIZES,
    STRETCH,
    max_prompt_rows,
)
from outrider.daemon.runner.speculation.controller import SpeculationController
from outrider.daemon.runner.speculation.profile import SpeculationProfile

pytestmark = pytest.mark.unit

NOISE = 0.05  # largest relative deviation of a step


@dataclass(frozen=True)
class Machine:
    """Seconds of a step: by its decode rows, draft rows included, and per prompt row."""

    decode: Mapping[int, float]
    prompt_row_s: float

    def step_s(self, decode_rows: int, prompt_rows: int) -> float:
        return seconds(self.decode, decode_rows) + prompt_rows * self.prompt_row_s


MACHINES = {
    "laptop": Machine({1: 0.026, 2: 0.030, 16: 0.120}, 0.0021),
    "server": Machine({1: 0.009, 2: 0.010, 16: 0.025}, 0.0002),
    "small model": Machine({1: 0.002, 2: 0.002, 16: 0.004}, 0.00005),
    "slow prompts": Machine({1: 0.020, 2: 0.020, 16: 0.060}, 0.004),
}


def no_drafts(_step: int) -> int:
    return 0


def drafts_without_prompts(step: int) -> int:
    """8 draft rows in steps without prompt rows, and none beside prompts that start."""
    return 0 if step % 3 else 8


def drafts_at_times(step: int) -> int:
    """8 draft rows in nine of ten steps."""
    return 8 if step % 10 else 0


def calibrated(machine: Machine) -> SpeculationProfile:
    """The profile of a runner with drafters before its first request."""
    profile = SpeculationProfile()
    for rows in (1, 4):
        profile.observe_step(rows=rows, prompt_rows=0, took_s=machine.step_s(rows, 0))
    return profile


def run(
    profile: SpeculationProfile,
    machine: Machine,
    *,
    streams: int = 2,
    num_drafts: Callable[[int], int] = no_drafts,
    seed: int = 1,
) -> list[float]:
    """120 steps, two of three with as many prompt rows as the budget allows.

    Returns the stretch of those against the same step without prompt rows.
    """
    rng, stretches = random.Random(seed), []
    for step in range(120):
        decode_rows = streams + num_drafts(step)
        prompt_rows = max_prompt_rows(profile, streams) if step % 3 else 0
        took_s = machine.step_s(decode_rows, prompt_rows)
        if prompt_rows:
            stretches.append(took_s / machine.step_s(decode_rows, 0))
        took_s *= rng.uniform(1 - NOISE, 1 + NOISE)
        profile.observe_step(rows=decode_rows + prompt_rows, prompt_rows=prompt_rows, took_s=took_s)
    return stretches


def simple(base_s: float, prompt_row_s: float) -> Machine:
    """Decode rows cost nothing beyond the first."""
    return Machine({1: base_s, 16: base_s}, prompt_row_s)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("seed", range(5))
def test_a_step_takes_as_long_as_it_may(machine: str, seed: int) -> None:
    profile = SpeculationProfile()
    run(profile, MACHINES[machine], seed=seed)
    rows = max_prompt_rows(profile, 2)
    ideal = (STRETCH - 1) * MACHINES[machine].step_s(2, 0) / MACHINES[machine].prompt_row_s
    assert ideal / 2 * 0.7 < rows < ideal * 1.3, "it is rounded down to one of few sizes"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("num_drafts", [no_drafts, drafts_at_times, drafts_without_prompts])
@pytest.mark.parametrize("streams", [1, 2])
def test_a_stretched_step_is_compared_with_a_plain_one(
    machine: str, num_drafts: Callable[[int], int], streams: int
) -> None:
    """With draft rows taken for streams, the stretch came to 5.8 times or to 1.3."""
    profile = calibrated(MACHINES[machine])
    run(profile, MACHINES[machine], streams=streams, num_drafts=num_drafts)
    stretches = run(profile, MACHINES[machine], streams=streams, num_drafts=num_drafts)
    assert 2.0 < max(stretches) < STRETCH * 1.15


def test_it_follows_when_the_machine_becomes_slower() -> None:
    profile = SpeculationProfile()
    run(profile, simple(0.010, 0.0001))
    fast = max_prompt_rows(profile, 2)
    run(profile, simple(0.010, 0.001))
    assert (fast, max_prompt_rows(profile, 2)) == (128, 12)


def test_without_streams_a_prompt_gets_all_rows() -> None:
    profile = SpeculationProfile()
    assert max_prompt_rows(profile, 0) == MAX_ROWS
    run(profile, simple(0.010, 0.001))
    assert max_prompt_rows(profile, 0) == MAX_ROWS


def test_with_unknown_costs_the_rows_are_few() -> None:
    profile = SpeculationProfile()
    assert max_prompt_rows(profile, 1) == INITIAL_ROWS
    profile.observe_step(rows=1, prompt_rows=0, took_s=0.01)
    assert max_prompt_rows(profile, 1) == INITIAL_ROWS, "the cost of a prompt row is unknown"


def test_prompts_without_streams_teach_nothing() -> None:
    profile, untouched = SpeculationProfile(), SpeculationProfile()
    for each in (profile, untouched):
        run(each, simple(0.010, 0.001))
    for _ in range(100):
        profile.observe_step(rows=256, prompt_rows=256, took_s=9.0)
    assert [max_prompt_rows(profile, n) for n in range(1, 9)] == [
        max_prompt_rows(untouched, n) for n in range(1, 9)
    ]


def test_costs_are_not_extrapolated_to_more_streams() -> None:
    profile = SpeculationProfile()
    run(profile, simple(0.010, 0.001), streams=2)
    assert max_prompt_rows(profile, 1) == max_prompt_rows(profile, 2) == max_prompt_rows(profile, 8)
    run(profile, simple(0.040, 0.001), streams=8)
    few, many = max_prompt_rows(profile, 2), max_prompt_rows(profile, 8)
    assert few <= max_prompt_rows(profile, 5) <= many == max_prompt_rows(profile, 30)
    assert few < many


def test_costs_are_learned_without_drafters() -> None:
    """By the same observation of a step that serves speculation."""
    speculation = SpeculationController((), SpeculationProfile())
    for prompt_rows in (0, 16) * 20:
        took_s = MACHINES["server"].step_s(2, prompt_rows)
        speculation.observe_step(rows=2 + prompt_rows, prompt_rows=prompt_rows, took_s=took_s)
    assert max_prompt_rows(speculation.profile, 2) == 64


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_measured_the_rows_are_of_few_sizes(seed: int) -> None:
    rng = random.Random(seed)
    profile = SpeculationProfile()
    for _ in range(200):
        prompt_rows = rng.choice((0, rng.randint(1, 512)))
        streams = rng.randint(0 if prompt_rows else 1, 8)
        profile.observe_step(
            rows=streams + prompt_rows,
            prompt_rows=prompt_rows,
            took_s=rng.choice((0.0, 1e-9, 1e3, rng.random())),
        )
        for streams in range(1, 9):
            rows = max_prompt_rows(profile, streams)
            assert MIN_ROWS <= rows <= MAX_ROWS
            assert rows in SIZES
