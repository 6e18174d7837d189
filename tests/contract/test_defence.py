"""The daemon as a process that others can reach: keys, refusals and its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import start_daemon

pytestmark = pytest.mark.contract

KEY = "secret-12345"


def run(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    ours = ("OUTRIDER_", "OLLAMA_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-m", "outrider.daemon", *args],
        env={**clean, "OUTRIDER_MODELS": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_daemon_does_not_start_open_to_other_machines(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--port", "0", OLLAMA_HOST="0.0.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: 0.0.0.0 is reached from other machines")
    assert len(done.stderr.splitlines()) == 1


def test_a_daemon_with_keys_that_other_machines_reach(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"phone:{KEY}\n")
    keys.chmod(0o600)
    env = {
        "OUTRIDER_HOST": "0.0.0.0",
        "OUTRIDER_API_KEY_FILE": str(keys),
        "OUTRIDER_LOG_FORMAT": "json",
    }
    with start_daemon(tmp_path / "models", tmp_path, env=env) as daemon:
        assert daemon.url.startswith("http://127.0.0.1:")
        assert daemon.get("/api/tags") == (401, {"error": "unauthorized"})
        headers = {"Authorization": f"Bearer {KEY}", "X-Request-Id": "mine"}
        assert daemon.get("/api/tags", headers) == (200, {"models": []})
        refused = run(tmp_path, "list", OUTRIDER_HOST=daemon.url)
        assert refused.returncode == 1
        assert "set OUTRIDER_API_KEY" in refused.stderr
        listed = run(tmp_path, "list", OUTRIDER_HOST=daemon.url, OUTRIDER_API_KEY=KEY)
        assert (listed.returncode, listed.stderr) == (0, "")
        log = daemon.log.read_text()
    assert KEY not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (mine,) = [line for line in lines if line.get("request_id") == "mine"]
    assert (mine["path"], mine["status"], mine["key"]) == ("/api/tags", 200, "phone")
