"""Is a GPU that is there but unused found without starting llama.cpp?"""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.daemon.diagnosis import survey
from outrider.daemon.diagnosis.facts import LlamaBuild

pytestmark = pytest.mark.unit


def plug(root: Path, place: str, vendor: str) -> None:
    folder = root / "sys/bus/pci/devices" / place
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text("0x030000\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(survey, "ROOT", tmp_path)
    monkeypatch.setattr(survey, "read_build", lambda: LlamaBuild("0.3.36", "0.3.36", ("cpu",)))
    monkeypatch.setattr(survey.sys, "platform", "linux")
    return tmp_path


def test_a_discrete_gpu_is_told_at_the_start_of_the_daemon(root: Path) -> None:
    plug(root, "0000:03:00.0", "0x1002")
    [finding] = survey.find_unused_gpus({})
    assert finding.text == "AMD GPU found, but llama.cpp was built for the CPU"
    assert "-DGGML_VULKAN=on" in finding.remedy


def test_an_integrated_gpu_and_none_are_not(root: Path) -> None:
    assert survey.find_unused_gpus({}) == []
    plug(root, "0000:00:02.0", "0x8086")
    assert survey.find_unused_gpus({}) == []
