"""When a runner is taken to hang: by its own expectation, and never without work."""

from __future__ import annotations

import pytest
from outrider.daemon.protocol import Working
from outrider.daemon.runners.watchdog import Patience, ProgressWatch

pytestmark = pytest.mark.unit

PATIENCE = Patience(least_s=30.0, factor=10.0, unknown_s=600.0)


def watch() -> ProgressWatch:
    return ProgressWatch(PATIENCE)


def test_an_idle_runner_is_never_overdue() -> None:
    runner = watch()
    assert runner.overdue_s(1e9) == runner.silent_s(1e9) == 0.0
    runner.begin(1, 10.0)
    runner.end(1)
    assert runner.overdue_s(1e9) == runner.silent_s(1e9) == 0.0
    assert not runner.has_work


def test_a_stopped_one_is_noticed_with_the_next_request() -> None:
    runner = watch()
    runner.begin(1, 1000.0)
    assert runner.overdue_s(1029.0) == 0.0
    assert runner.silent_s(1029.0) == 29.0
    assert runner.overdue_s(1031.0) == 1.0


def test_a_request_beside_others_does_not_start_the_clock_anew() -> None:
    runner = watch()
    runner.begin(1, 0.0)
    runner.begin(2, 29.0)
    assert runner.overdue_s(31.0) == 1.0


@pytest.mark.parametrize(("expected_s", "until_s"), [(0.1, 30.0), (60.0, 600.0), (None, 600.0)])
def test_a_step_gets_ten_times_what_it_should_take(
    expected_s: float | None, until_s: float
) -> None:
    runner = watch()
    runner.begin(1, 0.0)
    runner.hear_of_work(Working(expected_s), 100.0)
    assert runner.overdue_s(100.0 + until_s) == 0.0
    assert runner.overdue_s(101.0 + until_s) == 1.0


def test_after_its_end_the_expectation_of_a_step_is_forgotten() -> None:
    runner = watch()
    runner.begin(1, 0.0)
    runner.hear_of_work(Working(60.0), 0.0)
    runner.hear(1.0)
    assert runner.overdue_s(32.0) == 1.0


def test_a_request_is_prepared_in_its_own_time_until_it_gets_text() -> None:
    runner = watch()
    runner.begin(1, 0.0)
    runner.hear_of_work(Working(20.0, id=1), 0.0)
    runner.hear_of_work(Working(20.0, id=9), 500.0)  # one that has left
    runner.hear(0.0)
    assert runner.overdue_s(200.0) == 0.0
    runner.hear_answer(1)
    assert runner.overdue_s(200.0) == 170.0


def test_time_in_which_nothing_ran_does_not_count() -> None:
    runner = watch()
    runner.begin(1, 0.0)
    runner.hear_of_work(Working(10.0, id=1), 0.0)
    runner.forgive(1000.0)
    assert runner.overdue_s(1100.0) == 0.0
    assert runner.overdue_s(1101.0) == 1.0
