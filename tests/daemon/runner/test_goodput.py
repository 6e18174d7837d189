"""Does reading ahead pay, on machines and texts of many kinds, as time in the lab tells?"""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

import pytest
from lab import Content, Machine, decode, first_measured

MACHINES = {
    "gpu": Machine({1: 0.02, 8: 0.0215, 16: 0.024, 32: 0.03}, {1: 0.002, 8: 0.0023}, 0.0002),
    "bf16": Machine(  # a CPU; figures of two real models
        {1: 0.1, 2: 0.15, 3: 0.19, 4: 0.19, 5: 0.2, 8: 0.23, 9: 0.24, 16: 0.4, 32: 0.75},
        {1: 0.018, 2: 0.026, 4: 0.042, 8: 0.07, 16: 0.13},
        0.006,
    ),
    "slow": Machine(  # another one, on which rows are dear from the ninth on
        {1: 0.25, 2: 0.28, 3: 0.38, 4: 0.48, 5: 0.55, 6: 0.6, 8: 0.79, 9: 1.0, 16: 2.1},
        {1: 0.034, 2: 0.057, 4: 0.11, 8: 0.2},
        0.02,
    ),
    "quantised": Machine(  # a CPU on which no guess ever pays for several streams
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
STREAMS = (1, 4, 8)
FIXED = (1, 2, 4, 8)
TOKENS = 128
SEEDS = range(1, 9)


def ratios(machine: Machine, content: Content, streams: int) -> tuple[float, float]:
    """Adaptive by plain decoding, and by the best fixed length; those of that length came before,
    as they do in a benchmark."""
    rates: dict[int | None, list[float]] = defaultdict(list)
    for seed in SEEDS:
        learned, tokens = first_measured(machine), round(TOKENS / streams ** (1 / 3))
        for way in (0, *FIXED, None):
            rate = decode(
                machine, [content] * streams, learned, tokens=tokens, fixed=way, seed=seed
            )
            rates[way].append(rate)
    mean = {way: fmean(of_way) for way, of_way in rates.items()}
    adaptive = mean.pop(None)
    return adaptive / mean[0], adaptive / max(mean.values())


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("machine", MACHINES)
def test_adaptive_is_as_good_as_the_best_fixed_length(
    machine: str, content: str, streams: int
) -> None:
    by_plain, by_fixed = ratios(MACHINES[machine], CONTENTS[content], streams)
    assert by_plain >= 0.995
    assert by_fixed >= 0.97


@pytest.mark.parametrize("machine", MACHINES)
def test_streams_of_all_kinds_share_a_step(machine: str) -> None:
    contents, learned = list(CONTENTS.values()) * 2, first_measured(MACHINES[machine])
    plain, two, four, adaptive = (
        decode(MACHINES[machine], contents, learned, tokens=200, fixed=fixed)
        for fixed in (0, 2, 4, None)
    )
    assert adaptive >= 0.99 * plain
    assert adaptive >= 0.97 * max(two, four)


def test_a_text_that_becomes_hard_is_noticed() -> None:
    machine, learned = MACHINES["bf16"], first_measured(MACHINES["bf16"])
    easy, hard = [CONTENTS["edit"]], [CONTENTS["prose"]]
    assert decode(machine, easy, learned, tokens=400) > 1.3 * decode(
        machine, easy, learned, tokens=400, fixed=0
    )
    plain = decode(machine, hard, learned, tokens=200, fixed=0)
    assert decode(machine, hard, learned, tokens=200) >= 0.97 * plain


def test_a_text_that_becomes_easy_is_noticed() -> None:
    machine, learned = MACHINES["bf16"], first_measured(MACHINES["bf16"])
    decode(machine, [CONTENTS["prose"]], learned, tokens=400)
    plain = decode(machine, [CONTENTS["edit"]], learned, tokens=1000, fixed=0)
    assert decode(machine, [CONTENTS["edit"]], learned, tokens=1000) > 1.3 * plain
