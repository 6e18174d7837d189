"""What a daemon says about memory before and after a load, and how fast it gives memory back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from daemons import Daemon, Json, start_daemon
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.contract

SHAPE: dict[str, Any] = {"layers": 4, "embd": 256, "heads": 16, "heads_kv": 16, "context": 32768}
OPTIONS = {"num_ctx": 16384}
STOP_S = 2.5  # in which an unloaded model's processes end
HANG_S = 60.0  # far above what any of this takes


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a model of some size, and a drafter for all models that fits none of them."""
    root, folder = tmp_path_factory.mktemp("plans"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "oak", write_llama(folder / "oak.gguf", **SHAPE))
    drafter = write_llama(folder / "drafter.gguf", vocab=2000, layers=1)
    env = {"OUTRIDER_NUM_PARALLEL": "1", "OUTRIDER_DRAFT": str(drafter)}
    with start_daemon(root, tmp_path_factory.mktemp("planner"), env=env) as running:
        yield running


def plan(daemon: Daemon, **body: object) -> Json:
    status, answer = daemon.post("/api/plan", {"model": "oak", "options": OPTIONS, **body})
    assert status == 200, answer
    return answer


def load(daemon: Daemon) -> Json:
    """The row of the model in ps, after it was loaded."""
    body = {"model": "oak", "options": OPTIONS, "keep_alive": -1}
    assert daemon.post("/api/generate", body)[0] == 200
    (row,) = daemon.get("/api/ps")[1]["models"]
    return dict(row)


def outrider(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outrider.daemon", "--host", daemon.url, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)


def test_a_plan_loads_nothing_and_is_what_a_load_takes(planner: Daemon) -> None:
    daemon = planner
    daemon.post("/api/generate", {"model": "oak", "keep_alive": 0})
    planned = plan(daemon)
    row = load(daemon)
    assert row["memory"]["planned_bytes"] == planned["planned_bytes"]
    assert row["context_length"] == planned["context_length"] == OPTIONS["num_ctx"]
    assert 0.5 < row["size"] / planned["planned_bytes"] < 1.5
    devices = row["memory"]["devices"]
    assert sum(device["measured_bytes"] for device in devices) == row["size"] > 0
    on_gpus = sum(device["measured_bytes"] for device in devices if device["is_gpu"])
    assert on_gpus == row["size_vram"]


def test_the_refused_drafter_is_told_in_ps_in_the_header_and_in_the_log(planner: Daemon) -> None:
    (warning,) = load(planner)["memory"]["warnings"]
    assert "drafter.gguf is not used" in warning
    for stream in (True, False):
        body = {"model": "oak", "prompt": "x", "stream": stream, "options": {"num_predict": 2}}
        request = urllib.request.Request(planner.url + "/api/generate", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            told = answer.headers.get_all("Outrider-Warning")
            answer.read()
        assert told == [" ".join(warning.split())]
    loads = planner.log.read_text().count("loaded oak")
    assert planner.log.read_text().count(f"WARNING oak:latest: {warning}") == loads


def test_plans_for_other_machines_differ(planner: Daemon) -> None:
    (host,) = plan(planner, memory=[0])["devices"]
    both = plan(planner, memory=["24GiB", "24GiB"])
    assert host["layers"] == SHAPE["layers"] + 1
    assert [device["is_gpu"] for device in both["devices"]] == [False, True, True]
    assert [device["total_bytes"] for device in both["devices"][1:]] == [24 << 30, 24 << 30]


def test_the_command_prints_the_plan(planner: Daemon) -> None:
    done = outrider(planner, "plan", "oak", "--ctx", "8192", "--slots", "2", "--memory", "24GiB")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("oak:latest: context 8,192, 2 slots")
    assert re.search(r"^PART +CPU +GPU0$", done.stdout, re.MULTILINE)
    assert re.search(r"^free .* 24\.00 GiB$", done.stdout, re.MULTILINE)
    plain = outrider(planner, "plan", "oak", "--json", "--kv", "q8_0")
    assert json.loads(plain.stdout)["kv_cache_type"] == "q8_0"


def test_the_command_says_what_is_missing(planner: Daemon) -> None:
    done = outrider(planner, "plan", "hf.co/nobody/nothing")
    assert (done.returncode, done.stderr) == (1, "Error: model 'hf.co/nobody/nothing' not found\n")


def test_ps_verbose_tells_the_plan_beside_what_is_taken(planner: Daemon) -> None:
    load(planner)
    done = outrider(planner, "ps", "--verbose")
    assert "PROCESSOR" in done.stdout
    assert re.search(r"^oak:latest: .* taken, .* planned$", done.stdout, re.MULTILINE)
    assert "Warning: no drafter: " in done.stdout


def test_metrics_count_loads_and_their_time(planner: Daemon) -> None:
    load(planner)
    text = planner.get("/metrics")[1]["text"]
    assert re.search(r'^outrider_loads_total{model="oak:latest"} [1-9]', text, re.MULTILINE)
    took = re.search(r'^outrider_load_seconds_total{model="oak:latest"} (\S+)', text, re.MULTILINE)
    assert took
    assert 0 < float(took[1]) < HANG_S
    row = load(planner)
    parts = re.findall(r'^outrider_memory_bytes{.*model="oak:latest".*} (\S+)$', text, re.MULTILINE)
    assert sum(map(float, parts)) == row["size"]


def test_an_unloaded_model_gives_its_memory_back_in_time(planner: Daemon) -> None:
    load(planner)
    (runner,) = planner.runners()
    family = [runner, *runner.children(recursive=True)]
    start_s = time.monotonic()
    assert planner.post("/api/generate", {"model": "oak", "keep_alive": 0})[0] == 200
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    assert not alive
    assert time.monotonic() - start_s < STOP_S
