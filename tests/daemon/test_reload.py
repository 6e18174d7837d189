"""SIGHUP: which settings change, which wait for a restart, and what a bad one does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from outrider.daemon.config import Settings
from outrider.daemon.errors import ConfigError
from outrider.daemon.reload import Reloader, SettingsFile

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of settings that the environment holds, as the service manager would have it."""
    for name in [n for n in os.environ if n.startswith(("OUTRIDER_", "OLLAMA_"))]:
        monkeypatch.delenv(name)
    for name in ("OUTRIDER_MAX_QUEUE", "OUTRIDER_KEEP_ALIVE", "OUTRIDER_NUM_PARALLEL"):
        monkeypatch.setenv(name, "7")  # so that it is gone after the test
    path = tmp_path / "outrider.env"
    path.write_text("OUTRIDER_MAX_QUEUE=7\nOUTRIDER_KEEP_ALIVE=7\nOUTRIDER_NUM_PARALLEL=7\n")
    return path


def reloader(path: Path, applied: list[Settings]) -> Reloader:
    live = dict.fromkeys(("max_queue", "keep_alive_s"), applied.append)
    return Reloader(Settings.load(), Settings.load, SettingsFile.open(path), live)


def test_live_settings_are_applied_and_others_named(path: Path) -> None:
    applied: list[Settings] = []
    one = reloader(path, applied)
    path.write_text("OUTRIDER_MAX_QUEUE=9\nOUTRIDER_KEEP_ALIVE=7\nOUTRIDER_NUM_PARALLEL=2\n")
    told = "settings were read again; applied: MAX_QUEUE; needs a restart: NUM_PARALLEL"
    assert str(one.reload()) == told
    assert [new.max_queue for new in applied] == [9]
    # What waits is told each time, until the restart.
    assert str(one.reload()) == "settings were read again; needs a restart: NUM_PARALLEL"
    assert len(applied) == 1


def test_a_line_that_is_gone_counts_as_not_set(path: Path) -> None:
    applied: list[Settings] = []
    one = reloader(path, applied)
    path.unlink()
    outcome = one.reload()
    assert set(outcome.applied) == {"MAX_QUEUE", "KEEP_ALIVE"}
    assert applied[0].max_queue == 512
    assert "OUTRIDER_MAX_QUEUE" not in os.environ


def test_a_bad_value_changes_nothing(path: Path) -> None:
    applied: list[Settings] = []
    one = reloader(path, applied)
    path.write_text("OUTRIDER_MAX_QUEUE=none\nOUTRIDER_KEEP_ALIVE=1\n")
    with pytest.raises(ConfigError, match="OUTRIDER_MAX_QUEUE"):
        one.reload()
    assert os.environ["OUTRIDER_MAX_QUEUE"] == os.environ["OUTRIDER_KEEP_ALIVE"] == "7"
    assert applied == []
    path.write_text("OUTRIDER_MAX_QUEUE=8\n")
    assert set(one.reload().applied) == {"MAX_QUEUE", "KEEP_ALIVE"}


def test_without_a_difference_it_says_so(path: Path) -> None:
    assert str(reloader(path, []).reload()).endswith("none has changed")
