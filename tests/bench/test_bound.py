"""Does the bound follow from the costs of drafts and steps, and from the acceptance rate?"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.bound import bound, saved_profile
from bench.failure import BenchFailed
from bench.load import DraftCounts, Reply
from lab import known
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.profile_store import save_profile
from outrider.daemon.runner.speculation.step_cost import StepCost

pytestmark = pytest.mark.unit

TIMES = 1600  # drafts of each length


def machine(*, row: float, draft: float | None) -> SpeculationProfile:
    """A decode of one row takes a second, and `row` seconds more for each further row."""
    verify = known({1: 1.0, 17: 1.0 + 16 * row})
    return SpeculationProfile(verify, StepCost() if draft is None else known({1: draft}))


def fixed(rate: float, *, idle: int = 0) -> list[Reply]:
    """Answers with 1, 2 and 4 draft tokens per step, and `idle` steps without a draft."""
    replies = []
    for length in (1, 2, 4):
        accepted = round(TIMES * sum(rate**depth for depth in range(1, length + 1)))
        drafts = DraftCounts(length * TIMES, accepted, float(length))
        replies.append(Reply(0.0, (), (), (), 0, TIMES + idle + accepted, drafts))
    return replies


@pytest.mark.parametrize(
    ("rate", "row", "draft", "expected"),
    [
        (0.5, 0.0, 0.1, 1.75 / 1.2),  # 2 draft tokens: one gives 1.5 / 1.1, three 1.875 / 1.3
        (0.5, 0.1, 0.1, 1.5 / 1.2),  # the rows cost something too
        (0.5, 0.0, 0.6, 1.0),
        (0.0, 0.0, 0.1, 1.0),
        (1.0, 0.0, 0.0, 17.0),
        (1.0, 0.0, None, 17.0),
    ],
)
def test_the_best_length_sets_the_bound(
    rate: float, row: float, draft: float | None, expected: float
) -> None:
    found = bound(fixed(rate), machine(row=row, draft=draft))
    assert found == pytest.approx(expected, rel=1e-3)


def test_steps_without_a_draft_gain_nothing() -> None:
    """Every other step: half of them give 17 tokens."""
    assert bound(fixed(1.0, idle=TIMES), machine(row=0.0, draft=None)) == pytest.approx(9.0)


def test_no_drafts_gain_nothing() -> None:
    assert bound([Reply(0.0, (), (), (), 0, 48)], machine(row=0.0, draft=None)) == 1.0


def test_the_saved_profile_is_read(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="has not kept"):
        saved_profile(tmp_path)
    save_profile(machine(row=0.5, draft=0.1), tmp_path / "outrider" / "speculation" / "one.json")
    assert saved_profile(tmp_path).verify.next_s(3) == pytest.approx(2.0)
