"""Does speculative decoding save time, on simulated machines with texts of many kinds?"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean

import pytest
from lab import Content, Machine, decode, first_measured, made_up
from outrider.daemon.runner.speculation.drafters.ngram import NgramDrafter
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from spoken import SpokenText, read

pytestmark = pytest.mark.sim

MACHINES = {
    "gpu": Machine({1: 0.02, 8: 0.0215, 16: 0.024, 32: 0.03}, {1: 0.002, 8: 0.0023}, 0.0002),
    "bf16": Machine(  # a CPU; measured with a real pair
        {1: 0.1, 2: 0.15, 3: 0.19, 4: 0.19, 5: 0.2, 8: 0.23, 9: 0.24, 16: 0.4, 32: 0.75},
        {1: 0.018, 2: 0.026, 4: 0.042, 8: 0.07, 16: 0.13},
        0.006,
    ),
    "slow": Machine(  # a CPU on which rows are expensive from the ninth on
        {1: 0.25, 2: 0.28, 3: 0.38, 4: 0.48, 5: 0.55, 6: 0.6, 8: 0.79, 9: 1.0, 16: 2.1},
        {1: 0.034, 2: 0.057, 4: 0.11, 8: 0.2},
        0.02,
    ),
    "quantised": Machine(  # a CPU on which drafts never save time for several streams
        {1: 0.1, 2: 0.16, 3: 0.22, 4: 0.28, 5: 0.44, 8: 0.71, 9: 0.77, 16: 1.4},
        {1: 0.018, 2: 0.026, 4: 0.042, 8: 0.07},
        0.006,
    ),
}
CONTENTS = {
    "chat": Content(0.45, 0.25),
    "edit": Content(0.88, 0.4, 12),
    "json": Content(0.8, 0.4, 8),
    "prose": Content(0.3, 0.2, 2),
}
MEASURED = Machine(  # the CPU on which the texts of spoken.jsonl were recorded
    {
        1: 0.096,
        2: 0.109,
        3: 0.118,
        4: 0.132,
        5: 0.141,
        6: 0.148,
        8: 0.171,
        9: 0.187,
        12: 0.209,
        16: 0.248,
        24: 0.324,
        32: 0.398,
    },
    {1: 0.0115, 2: 0.019, 4: 0.031, 8: 0.056, 16: 0.085},
    0.0055,
)
GPU = Machine(  # a large model; CUDA graphs are captured anew after a change of rows
    {1: 0.025, 2: 0.0255, 4: 0.026, 8: 0.027, 16: 0.029, 24: 0.032, 32: 0.036, 64: 0.05},
    {1: 0.0027, 2: 0.003, 4: 0.0034, 8: 0.0038, 16: 0.0055},
    0.0003,
    transient=(1.08, 1.12),
)
SPOKEN_ON = {  # machine, adaptive / plain at least, adaptive / best fixed length at least
    "still": (MEASURED, 0.99, 0.97),
    "now-and-then-slow": (replace(MEASURED, slowest=1.4), 0.99, 0.97),
    "gpu": (GPU, 0.99, 0.92),
}
STREAMS = (1, 4, 8)
FIXED = (1, 2, 4, 8)
WAYS = (0, *FIXED, None)
TOKENS = 128
SPOKEN_TOKENS = 64
SEEDS = range(1, 9)
TURNS = 3  # repetitions of each cell of the table, one after the other
Rates = Mapping[int | None, float]  # tokens per second by fixed length; None: adaptive
Cell = tuple[int, str, float]  # streams, kind of prompt, temperature
CELLS: tuple[Cell, ...] = tuple(product(STREAMS, ("chat", "edit", "json"), (0.0, 1.0)))


def run(
    machine: Machine,
    contents: Sequence[Content],
    profile: SpeculationProfile,
    *,
    tokens: int,
    fixed: int | None = None,
    seed: int = 0,
) -> float:
    """Tokens per second of made-up texts that are decoded together."""
    rng = random.Random(seed)
    return decode(machine, made_up(contents, tokens, rng), profile, rng, fixed=fixed)


def num_tokens(streams: int, alone: int) -> int:
    """Tokens of each stream, as in the benchmark; `alone`: those of a single one."""
    return round(alone / streams ** (1 / 3))


def by_plain_and_fixed(rates: Sequence[Rates]) -> tuple[float, float]:
    """Adaptive / plain decoding, and adaptive / best fixed length."""
    mean = {way: fmean(each[way] for each in rates) for way in WAYS}
    return mean[None] / mean[0], mean[None] / max(mean[way] for way in FIXED)


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("machine", MACHINES)
def test_adaptive_is_as_good_as_the_best_fixed_length(
    machine: str, content: str, streams: int
) -> None:
    contents, rates = [CONTENTS[content]] * streams, []
    for seed in SEEDS:
        profile, tokens = first_measured(MACHINES[machine]), num_tokens(streams, TOKENS)
        # the fixed lengths come first, as in the benchmark
        rates.append(
            {
                way: run(MACHINES[machine], contents, profile, tokens=tokens, fixed=way, seed=seed)
                for way in WAYS
            }
        )
    by_plain, by_fixed = by_plain_and_fixed(rates)
    assert by_plain >= 0.995
    assert by_fixed >= 0.97


@pytest.fixture(scope="module", params=SPOKEN_ON)
def spoken(request: pytest.FixtureRequest) -> tuple[str, Mapping[Cell, Sequence[Rates]]]:
    """The rates of the whole table on one machine; each seed starts with a fresh profile."""
    machine, texts, rates = SPOKEN_ON[request.param][0], read(), defaultdict(list)
    for seed in SEEDS:
        profile, rng = first_measured(machine), random.Random(seed)
        for (streams, kind, temperature), _ in product(CELLS, range(TURNS)):
            own = [t for t in texts if (t.kind, t.temperature) == (kind, temperature)][:streams]
            tokens = num_tokens(streams, SPOKEN_TOKENS)
            rates[streams, kind, temperature].append(
                {
                    way: decode(
                        machine,
                        [SpokenText(text.number, text, tokens) for text in own],
                        profile,
                        rng,
                        fixed=way,
                        free=[NgramDrafter()],
                    )
                    for way in WAYS
                }
            )
    return request.param, rates


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0]}-{cell[1]}-{cell[2]:g}")
def test_adaptive_saves_time_on_recorded_texts(
    spoken: tuple[str, Mapping[Cell, Sequence[Rates]]], cell: Cell
) -> None:
    machine, rates = spoken
    _, min_by_plain, min_by_fixed = SPOKEN_ON[machine]
    by_plain, by_fixed = by_plain_and_fixed(rates[cell])
    assert by_plain >= min_by_plain
    assert by_fixed >= min_by_fixed


@pytest.mark.parametrize("machine", MACHINES)
def test_streams_of_all_kinds_share_a_step(machine: str) -> None:
    contents, profile = list(CONTENTS.values()) * 2, first_measured(MACHINES[machine])
    plain, two, four, adaptive = (
        run(MACHINES[machine], contents, profile, tokens=200, fixed=fixed)
        for fixed in (0, 2, 4, None)
    )
    assert adaptive >= 0.99 * plain
    assert adaptive >= 0.97 * max(two, four)


def test_drafting_stops_after_a_change_to_a_hard_text() -> None:
    machine, profile = MACHINES["bf16"], first_measured(MACHINES["bf16"])
    easy, hard = [CONTENTS["edit"]], [CONTENTS["prose"]]
    assert run(machine, easy, profile, tokens=400) > 1.3 * run(
        machine, easy, profile, tokens=400, fixed=0
    )
    plain = run(machine, hard, profile, tokens=200, fixed=0)
    assert run(machine, hard, profile, tokens=200) >= 0.97 * plain


def test_drafting_resumes_after_a_change_to_an_easy_text() -> None:
    machine, profile = MACHINES["bf16"], first_measured(MACHINES["bf16"])
    run(machine, [CONTENTS["prose"]], profile, tokens=400)
    plain = run(machine, [CONTENTS["edit"]], profile, tokens=1000, fixed=0)
    assert run(machine, [CONTENTS["edit"]], profile, tokens=1000) > 1.3 * plain
