"""Does a profile outlive the runner, and does a broken file do no harm?"""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import open_engine
from harness import load_spec, text_request
from outrider.daemon.runner.llama.loading import load_model
from outrider.daemon.runner.speculation import profile_store
from outrider.daemon.runner.speculation.calibration import prepare_speculation
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from tiny import write_llama

pytestmark = pytest.mark.model


def profile() -> SpeculationProfile:
    profile = SpeculationProfile()
    for rows, took_s in ((1, 0.010), (4, 0.016), (8, 0.024), (4, 0.017)):
        profile.verify.observe(rows, took_s)
    profile.draft.observe(1, 0.002)
    profile.acceptance.observe("model", 1, [0.9, 0.5, 0.2], 2)
    return profile


def test_a_profile_is_stored_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profile.json"
    before = profile()
    profile_store.save_profile(before, path)
    after = profile_store.load_profile(path)
    assert after
    assert [after.verify.next_s(rows) for rows in (1, 3, 9)] == pytest.approx(
        [before.verify.next_s(rows) for rows in (1, 3, 9)]
    )
    assert after.draft.next_s(1) == before.draft.next_s(1)
    # the records of a stream end with its process; the global ones do not
    for confidence in (0.9, 0.2):
        assert after.acceptance.rate_of("model", 2, confidence) == before.acceptance.rate_of(
            "model", 2, confidence
        )
    assert [file.name for file in path.parent.iterdir()] == ["profile.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 1}', b"[]", b"\xff\xfe"])
def test_a_broken_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    assert profile_store.load_profile(path) is None


def test_a_file_of_another_version_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile_store.save_profile(profile(), path)
    path.write_text(path.read_text().replace(f'"version": {profile_store.VERSION}', '"version": 0'))
    assert profile_store.load_profile(path) is None
    assert profile_store.load_profile(tmp_path / "none.json") is None


def test_a_known_machine_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile_store.save_profile(profile(), path)
    load = load_spec(write_llama(tmp_path / "m.gguf"), speculation=4, profile=str(path))
    loaded = load_model(load, lambda _fraction: None)
    speculation = prepare_speculation(loaded, load)
    assert speculation.profile.verify.by_rows == profile().verify.by_rows
    loaded.context.close()
    loaded.model.close()


def test_a_profile_is_saved_at_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.json"
    writer = profile_store.ProfileWriter(profile(), str(path))
    writer.save()
    assert profile_store.load_profile(path)
    path.unlink()
    writer.save()
    assert not path.exists()
    monkeypatch.setattr(profile_store, "SAVE_INTERVAL_S", 0.0)
    writer.save()
    assert path.exists()


def test_a_failed_write_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(profile_store, "SAVE_INTERVAL_S", 0.0)
    (tmp_path / "file").touch()
    writer = profile_store.ProfileWriter(profile(), str(tmp_path / "file" / "profile.json"))
    writer.save()
    writer.save()
    assert caplog.text.count("the speculation profile cannot be saved") == 1


def test_an_engine_is_idle_without_requests(tmp_path: Path) -> None:
    with open_engine(load_spec(write_llama(tmp_path / "m.gguf"))) as harness:
        assert harness.engine.is_idle
        harness.submit(text_request(0, "over the hills", 8))
        harness.turn()
        assert not harness.engine.is_idle
        harness.finish(1)
        assert harness.engine.is_idle
