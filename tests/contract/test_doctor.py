"""`outrider doctor` on this machine: llama.cpp is asked in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon

pytestmark = pytest.mark.contract


def doctor(url: str, models: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "outrider.daemon", "doctor", "--json", "--models", str(models)],
        env={**os.environ, "OUTRIDER_HOST": url},
        capture_output=True,
        timeout=60,
    )
    assert not done.stderr
    return done.returncode, json.loads(done.stdout)


def test_beside_a_running_daemon(daemon: Daemon, store_root: Path) -> None:
    code, told = doctor(daemon.url, store_root)
    facts = told["facts"]
    assert facts["address"]["program"] == "outrider"
    assert facts["llama"]["failure"] == ""
    assert "CPU" in [device["name"] for device in facts["llama"]["devices"]]
    assert facts["models"]["read_bytes_per_s"] > 1e6
    assert code == int(any(finding["is_problem"] for finding in told["findings"]))


def test_without_a_daemon(tmp_path: Path) -> None:
    _, told = doctor("127.0.0.1:1", tmp_path / "missing")
    assert told["facts"]["address"]["program"] == ""
    assert told["facts"]["models"]["read_bytes_per_s"] is None
