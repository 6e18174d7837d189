"""Does the bound follow from what guesses and steps cost, and from how many were right?"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.bound import bound, learned_in
from bench.failure import BenchFailed
from bench.load import Guessed, Reply
from lab import known
from outrider.daemon.runner.curve import Curve
from outrider.daemon.runner.learned import Learned
from outrider.daemon.runner.profile import keep

TIMES = 1600  # that something was guessed, with each length


def machine(*, row: float, draft: float | None) -> Learned:
    """A decode of one row takes a second, each further one so much more."""
    verify = known({1: 1.0, 17: 1.0 + 16 * row})
    return Learned(verify, Curve() if draft is None else known({1: draft}))


def fixed(chance: float, *, idle: int = 0) -> list[Reply]:
    """Answers with 1, 2 and 4 guesses a step, and so many steps in which there were none."""
    replies = []
    for length in (1, 2, 4):
        right = round(TIMES * sum(chance**depth for depth in range(1, length + 1)))
        guessed = Guessed(length * TIMES, right, float(length))
        replies.append(Reply(0.0, (), (), (), 0, TIMES + idle + right, guessed))
    return replies


@pytest.mark.parametrize(
    ("chance", "row", "draft", "expected"),
    [
        (0.5, 0.0, 0.1, 1.75 / 1.2),  # 2 guesses: one gives 1.5 / 1.1, three 1.875 / 1.3
        (0.5, 0.1, 0.1, 1.5 / 1.2),  # the rows cost something too
        (0.5, 0.0, 0.6, 1.0),
        (0.0, 0.0, 0.1, 1.0),
        (1.0, 0.0, 0.0, 17.0),
        (1.0, 0.0, None, 17.0),
    ],
)
def test_the_best_length_sets_the_bound(
    chance: float, row: float, draft: float | None, expected: float
) -> None:
    found = bound(fixed(chance), machine(row=row, draft=draft))
    assert found == pytest.approx(expected, rel=1e-3)


def test_steps_without_a_guess_gain_nothing() -> None:
    """Every other step: half of them give 17 tokens."""
    assert bound(fixed(1.0, idle=TIMES), machine(row=0.0, draft=None)) == pytest.approx(9.0)


def test_who_never_guesses_gains_nothing() -> None:
    assert bound([Reply(0.0, (), (), (), 0, 48)], machine(row=0.0, draft=None)) == 1.0


def test_what_the_daemon_has_kept_is_read(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="has not kept"):
        learned_in(tmp_path)
    keep(machine(row=0.5, draft=0.1), tmp_path / "outrider" / "learned" / "one.json")
    assert learned_in(tmp_path).verify.seconds(3) == pytest.approx(2.0)
