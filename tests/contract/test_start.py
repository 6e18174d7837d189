"""Does the front start without what only some requests need, and with little memory?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from daemons import start_daemon

pytestmark = pytest.mark.contract

# Libraries that together take half as long to import as all the rest: for weights, vectors, large
# bodies, Go and Jinja templates, the keys of users, YAML inside of gguf.
NOT_YET = ("llama_cpp", "numpy", "gguf", "gotpl", "jinja2", "cryptography", "yaml", "llguidance")
LIST = "import json, sys, outrider.daemon.app; print(json.dumps(sorted(sys.modules)))"
TIME = "import time, outrider.daemon.app; print(time.process_time())"  # with the interpreter
MAX_RSS_MIB = 80


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_front_imports_no_more_than_it_needs(measurements: list[str]) -> None:
    loaded = {name.split(".")[0] for name in json.loads(run(LIST))}
    assert loaded & set(NOT_YET) == set()
    measurements.append(f"interpreter and import of the front: {float(run(TIME)):.2f} s of a core")


def test_an_idle_front_takes_little_memory(
    store_root: Path, tmp_path: Path, measurements: list[str]
) -> None:
    with start_daemon(store_root, tmp_path) as daemon:
        assert daemon.get("/api/version")[0] == 200
        rss_mib = psutil.Process(daemon.process.pid).memory_info().rss / 2**20
    measurements.append(f"idle front: {rss_mib:.0f} MiB")
    assert rss_mib < MAX_RSS_MIB
