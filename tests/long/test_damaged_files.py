"""Thousands of damaged GGUF files through show, load and a request: one clear error each."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from daemons import Daemon, start_daemon
from long.gguf_mutation import Damaged, make_damaged, write_sound
from long.log_faults import find_faults
from long.sizes import SIZES
from outrider.daemon.api.error_table import INTERNAL
from outrider.daemon.runners.process import DIED
from outrider.models.name import Name
from outrider.models.store import Store
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.long

HANG_S = 30.0
MAX_BYTES = 2 << 30  # of a runner with a model of 1 MB
WATCH_S = 0.2
MAX_SHOWN = 30
CRASHED = re.compile(r"llama-server process has terminated: (signal \d+|exit status \d+)")
OPTIONS = {"num_predict": 4, "num_ctx": 256}


@dataclass
class FileFindings:
    """What the files have shown."""

    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    largest_bytes: int = 0


@contextlib.contextmanager
def watching(daemon: Daemon, findings: FileFindings) -> Iterator[None]:
    """Measures the runners meanwhile."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(WATCH_S):
            with contextlib.suppress(psutil.Error):
                front = psutil.Process(daemon.process.pid)
                for child in (front, *front.children(recursive=True)):
                    findings.largest_bytes = max(findings.largest_bytes, child.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    root = tmp_path / "models"
    import_gguf(root, "tiny", write_llama(tmp_path / "tiny.gguf", seed=1))
    with start_daemon(root, tmp_path) as running:
        yield running


def ask(daemon: Daemon, path: str, body: object) -> tuple[int, str, float]:
    """Status, text and seconds; status 0 for no answer in time."""
    start_s = time.monotonic()
    request = urllib.request.Request(daemon.url + path, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=HANG_S + 5) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    except OSError as error:
        status, text = 0, repr(error)
    return status, text, time.monotonic() - start_s


def judge(status: int, text: str, took_s: float, *, in_request: bool) -> Iterator[str]:
    """What is wrong with an answer about a damaged file."""
    if took_s > HANG_S:
        yield f"hangs for {took_s:.0f} s"
    if not status:
        yield f"no answer: {text}"
        return
    try:
        answer = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        yield f"{status} is no JSON: {error}: {text[:200]}"
        return
    if INTERNAL in text or "Traceback" in text:
        yield f"{status}: {text[:300]}"
    if status >= 400 and not answer.get("error"):
        yield f"{status} without an error: {text[:200]}"
    if len(text) > 10_000 and status >= 400:
        yield f"an error of {len(text)} characters"
    if in_request and DIED in text:
        yield f"the runner ended: {text[:300]}"


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def try_file(daemon: Daemon, store: Store, number: int, damaged: Damaged, path: Path) -> list[str]:
    """What is wrong with the answers about one file; counted too."""
    path.write_bytes(damaged.data)
    name = f"damaged-{number}"
    import_gguf(store.root, name, path)
    faults = []
    shown = ask(daemon, "/api/show", {"model": name, "verbose": number % 2 == 0})
    faults += [f"show: {fault}" for fault in judge(*shown, in_request=False)]
    if damaged.is_encoder:
        body = {"model": name, "input": "hello", "options": OPTIONS, "keep_alive": 0}
        asked = ask(daemon, "/api/embed", body)
    else:
        message = {"role": "user", "content": "hello"}
        asked = ask(
            daemon,
            "/api/chat",
            {
                "model": name,
                "messages": [message],
                "stream": False,
                "options": OPTIONS,
                "keep_alive": 0,
            },
        )
    faults += [f"request: {fault}" for fault in judge(*asked, in_request=True)]
    FINDINGS.slowest_s = max(FINDINGS.slowest_s, shown[2], asked[2])
    crash = CRASHED.search(asked[1])
    FINDINGS.crashes.update([crash[1]] if crash else [])
    FINDINGS.outcomes[f"show {shown[0]}, request {asked[0]}"] += 1
    store.delete(Name.parse(name))
    return [f"file {number} ({damaged.what}): {fault}" for fault in faults]


FINDINGS = FileFindings()


@pytest.mark.timeout(300 + 10 * SIZES.files)
def test_damaged_files(daemon: Daemon, tmp_path: Path, measurements: list[str]) -> None:
    sound, store = write_sound(tmp_path), Store(tmp_path / "models")
    start_s = time.monotonic()
    with watching(daemon, FINDINGS):
        for number in range(SIZES.files):
            damaged = make_damaged(number, SIZES.seed, sound, tmp_path)
            before = FINDINGS.largest_bytes
            FINDINGS.faults += try_file(daemon, store, number, damaged, tmp_path / "x.gguf")
            if FINDINGS.largest_bytes > max(MAX_BYTES, before):
                told = f"{FINDINGS.largest_bytes >> 20} MiB"
                FINDINGS.faults.append(f"file {number} ({damaged.what}): a process of {told}")
            if number % 50 == 0:
                store.prune()
    body = {"model": "tiny", "prompt": "x", "stream": False}
    assert daemon.post("/api/generate", body)[0] == 200
    measurements.append(
        f"{SIZES.files} damaged files in {time.monotonic() - start_s:.0f} s: "
        f"{dict(FINDINGS.outcomes)}; ends of runners while loading {dict(FINDINGS.crashes)}; "
        f"slowest {FINDINGS.slowest_s:.1f} s, largest process "
        f"{FINDINGS.largest_bytes >> 20} MiB; faults {len(FINDINGS.faults)}"
    )
    for fault in FINDINGS.faults:
        print(fault[:400])
    logged = find_faults(daemon.log)
    assert not FINDINGS.faults, "\n".join(FINDINGS.faults[:MAX_SHOWN])
    assert not logged, "\n\n".join(logged)
