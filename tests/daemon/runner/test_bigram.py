"""Is as much of what is drafted accepted as the drafter knows, and does auto mode notice?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from engines import open_engine
from harness import GREEDY, EngineHarness, load_spec, text_request
from lab import known
from outrider.daemon.protocol import Sampling, Submit
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.profile_store import save_profile
from outrider.daemon.runner.speculation.step_cost import StepCost
from tiny_bigram import recite, write_bigram_pair

pytestmark = pytest.mark.model

VARIANTS: dict[str, dict[str, int]] = {
    "dense": {},
    "moe": {"experts": 4},
    "shared-kv-per-layer": {"shared_kv_layers": 2, "per_layer_embd": 16},
}
STARTS = (" aa", " qx", " mm", " zb")
COUNT = 150  # words of an answer; one that is greedy says none of them twice
SEEDED = Sampling(temperature=1.0, seed=3)
UNCUT = Sampling(temperature=1.0, seed=4, top_k=0, top_p=1.0)
PENALISED = Sampling(temperature=1.0, seed=5, repeat_penalty=1.2, presence_penalty=0.3)
SAMPLINGS = (GREEDY, SEEDED, UNCUT, PENALISED)
MACHINE = SpeculationProfile(
    verify=known({1: 1.0, 64: 2.0}),
    draft=known({1: 0.1, 8: 0.2}),
)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, int]:
    return VARIANTS[request.param]


def requests(*samplings: Sampling) -> list[Submit]:
    """One for each start, at once."""
    return [
        text_request(i, f"To begin with:{start}", COUNT, sampling=samplings[i % len(samplings)])
        for i, start in enumerate(STARTS)
    ]


def run(pair: tuple[Path, Path], length: int, *samplings: Sampling) -> EngineHarness:
    """What came of drafting so far ahead, whether it pays or not."""
    target, drafter = pair
    with open_engine(load_spec(target, draft=str(drafter), speculation=length)) as harness:
        harness.run(*requests(*samplings))
        return harness


def recited() -> dict[int, str]:
    return {i: recite(start, COUNT) for i, start in enumerate(STARTS)}


def expected_share(agreement: float, length: int) -> float:
    """Of all drafts: one is accepted if it is right and all those before it are."""
    return sum(agreement**depth for depth in range(1, length + 1)) / length


def test_greedy_text_goes_in_a_circle(tmp_path: Path, variant: dict[str, int]) -> None:
    pair = write_bigram_pair(tmp_path, agreement=0.5, **variant)
    assert run(pair, 0, GREEDY).texts == recited()


@pytest.mark.parametrize(
    ("agreement", "length", "tolerance"),
    [(0.0, 3, 0.0), (0.5, 1, 0.05), (0.5, 3, 0.05), (1.0, 3, 0.0)],
)
def test_as_much_is_accepted_as_the_drafter_knows(
    tmp_path: Path, variant: dict[str, int], agreement: float, length: int, tolerance: float
) -> None:
    harness = run(write_bigram_pair(tmp_path, agreement=agreement, **variant), length, GREEDY)
    assert harness.texts == recited()
    told = harness.stats[-1]
    assert told.drafted_tokens > COUNT
    share = told.accepted_tokens / told.drafted_tokens
    assert share == pytest.approx(expected_share(agreement, length), abs=tolerance)
    assert {
        done.speculation_report.drafter for done in harness.done.values() if done.speculation_report
    } == {"assistant"}


@pytest.mark.parametrize("agreement", [0.5, 1.0])
def test_drawn_text_is_that_of_plain_decoding(
    tmp_path: Path, variant: dict[str, int], agreement: float
) -> None:
    pair = write_bigram_pair(tmp_path, agreement=agreement, **variant)
    plain, drafted = run(pair, 0, *SAMPLINGS), run(pair, 4, *SAMPLINGS)
    assert drafted.texts == plain.texts
    for i, text in recited().items():
        assert (plain.texts[i] == text) == (SAMPLINGS[i] is GREEDY)
    told = drafted.stats[-1]
    assert told.accepted_tokens > 0.6 * expected_share(agreement, 4) * told.drafted_tokens


def drafted_per_step(pair: tuple[Path, Path], profile: Path) -> float:
    """Of all four streams together, where as many are drafted as pay."""
    target, drafter = pair
    load = load_spec(target, draft=str(drafter), profile=str(profile))
    with open_engine(msgspec.structs.replace(load, speculation=None)) as harness:
        assert harness.run(*requests(GREEDY)) == recited()
        return harness.stats[-1].drafted_tokens / harness.stats[-1].steps


def test_who_knows_more_is_asked_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose speed is known and stays the same, so that no step is timed."""
    profile = tmp_path / "profile.json"
    save_profile(MACHINE, profile)
    monkeypatch.setattr(StepCost, "observe", lambda _self, _rows, took_s: took_s)
    nothing, half, everything = (
        drafted_per_step(write_bigram_pair(tmp_path, agreement=agreement), profile)
        for agreement in (0.0, 0.5, 1.0)
    )
    assert nothing < 1
    assert 2 < half < 8
    assert everything > 16
