"""How long a step should take, and which steps the front hears of."""

from __future__ import annotations

import pytest
from outrider.daemon.runner.forecast import LONG_S, SILENT_S, StepAnnouncer, StepForecast

pytestmark = pytest.mark.unit


def test_nothing_is_expected_before_the_first_step() -> None:
    assert StepForecast().expected_s(1) is None


def test_a_number_of_rows_that_never_occurred_takes_as_long_for_each_row() -> None:
    forecast = StepForecast()
    forecast.observe(1, 0.2)
    assert forecast.expected_s(1) == 0.2
    assert forecast.expected_s(512) == pytest.approx(0.2 * 512)
    forecast.observe(500, 60.0)
    assert forecast.expected_s(300) == 60.0
    assert forecast.expected_s(1) == 0.2


def test_fewer_rows_than_ever_take_no_longer_than_the_fewest() -> None:
    forecast = StepForecast()
    forecast.observe(64, 3.0)
    assert forecast.expected_s(1) == 3.0


def test_a_slower_machine_is_learned() -> None:
    forecast = StepForecast()
    for took_s in (1.0, *[4.0] * 10):
        forecast.observe(8, took_s)
    assert forecast.expected_s(8) == pytest.approx(4.0, rel=0.05)


def test_short_steps_are_announced_only_in_long_silence() -> None:
    announcer = StepAnnouncer()
    assert announcer.is_due(1, 0.0), "nothing is known"
    announcer.observe(1, 0.02)
    announcer.note_message(100.0)
    assert not announcer.is_due(1, 100.0 + SILENT_S)
    assert announcer.is_due(1, 100.1 + SILENT_S)
    assert not announcer.is_due(100, 100.0)
    assert announcer.is_due(int(LONG_S / 0.02) * 2, 100.0)
