"""A daemon whose runners have few rights works as ever, and notices one that hangs."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from daemons import Daemon, Json, start_daemon
from tiny import CHATML, write_llama
from weights import import_gguf

pytestmark = pytest.mark.contract

ENDED = "gave no sign of progress for 3"  # thirty-odd seconds
MESSAGES = [{"role": "user", "content": "hello hello hello"}]
ENDLESS = 100_000  # tokens
STREAMS: dict[str, Json] = {
    "/api/chat": {"options": {"num_predict": ENDLESS, "num_ctx": 2048}},
    "/v1/chat/completions": {"max_tokens": ENDLESS, "stream": True},
    "/v1/messages": {"max_tokens": ENDLESS, "stream": True},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "tiny", write_llama(folder / "tiny.gguf", seed=1, template=CHATML))
    return root


def chat(daemon: Daemon) -> Json:
    body = {"model": "tiny", "messages": MESSAGES, "options": {"num_predict": 200}}
    status, answer = daemon.post("/api/chat", {**body, "stream": False})
    assert status == 200, answer
    return answer


def is_confined(daemon: Daemon) -> bool:
    (runner,) = daemon.runners()
    return "NoNewPrivs:\t1" in Path(f"/proc/{runner.pid}/status").read_text()


def test_profiles_are_saved_from_within(root: Path, tmp_path: Path) -> None:
    with start_daemon(root, tmp_path) as daemon:
        chat(daemon)
        assert is_confined(daemon)
        deadline_s = time.monotonic() + 20
        while not list(tmp_path.glob("outrider/speculation/*.json")):
            assert time.monotonic() < deadline_s, daemon.log.read_text()
            time.sleep(0.05)
        assert "rights" not in daemon.log.read_text()


def test_it_can_be_turned_off_and_says_so(root: Path, tmp_path: Path) -> None:
    with start_daemon(root, tmp_path, env={"OUTRIDER_SANDBOX": "off"}) as daemon:
        chat(daemon)
        assert not is_confined(daemon)
        assert "runners keep all rights, as SANDBOX=off asks for" in daemon.log.read_text()


def lines(url: str, body: Json) -> Iterator[str]:
    request = urllib.request.Request(url, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=120) as response:
        for line in response:
            if text := line.decode().strip():
                yield text


@pytest.mark.timeout(150)
def test_a_stopped_runner_ends_each_stream_with_its_error(root: Path, tmp_path: Path) -> None:
    """In the form of each dialect; the next request loads the model again."""
    env = {"OUTRIDER_NUM_PARALLEL": "3"}
    with start_daemon(root, tmp_path, env=env) as daemon, ThreadPoolExecutor() as threads:
        streams = {
            path: lines(daemon.url + path, {"model": "tiny", "messages": MESSAGES, **fields})
            for path, fields in STREAMS.items()
        }
        for stream in streams.values():
            assert next(stream)
        (runner,) = daemon.runners()
        os.kill(runner.pid, signal.SIGSTOP)
        start_s = time.monotonic()
        tails = list(threads.map(lambda stream: list(stream)[-3:], streams.values()))
        assert 25 < time.monotonic() - start_s < 60
        ollama, openai, anthropic = tails
        assert ENDED in json.loads(ollama[-1])["error"]
        assert any(ENDED in line and '"error"' in line for line in openai)
        assert any(ENDED in line and '"type":"error"' in line for line in anthropic)
        chat(daemon)
        assert daemon.runners()[0].pid != runner.pid
