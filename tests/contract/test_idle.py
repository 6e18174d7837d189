"""Does a daemon with loaded models, which nobody asks anything, leave the machine alone?"""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from daemons import Daemon, start_daemon
from switches import MAX_SWITCHES, SETTLE_S, WATCH_S, switches
from tiny import CHATML, write_llama
from tiny_bert import write_bert
from weights import import_gguf

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "tiny", write_llama(folder / "tiny.gguf", seed=1, template=CHATML))
    import_gguf(root, "bert", write_bert(folder / "bert.gguf"))
    return root


def ask_everything(daemon: Daemon) -> http.client.HTTPConnection:
    """Loads both models; returns a connection that stays open."""
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc)
    connection.request("GET", "/api/version")
    connection.getresponse().read()
    message = {"role": "user", "content": "hello"}
    options = {"num_predict": 8, "num_ctx": 512}
    body = {"model": "tiny", "messages": [message], "options": options, "stream": False}
    assert daemon.post("/api/chat", body)[0] == 200
    assert daemon.post("/api/embed", {"model": "bert", "input": "hello"})[0] == 200
    return connection


def test_an_idle_daemon_does_not_wake_up(root: Path, tmp_path: Path) -> None:
    with start_daemon(root, tmp_path) as daemon:
        connection = ask_everything(daemon)
        front = psutil.Process(daemon.process.pid)
        processes = [front, *front.children(recursive=True)]
        assert len(processes) == 4, "front, a runner with the child that renders, another runner"
        time.sleep(SETTLE_S)
        before = {process: switches(process) for process in processes}
        time.sleep(WATCH_S)
        woken = {process: switches(process) - before[process] for process in processes}
        connection.close()
    assert max(woken.values()) <= MAX_SWITCHES, woken
