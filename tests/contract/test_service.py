"""The daemon as a service manager drives it: sockets, draining, SIGHUP, signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import start_daemon
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.contract

LONG = {"num_predict": 1500, "num_ctx": 2048, "temperature": 0.0}
PATIENCE_S = 30.0
# As systemd starts a service: the socket is descriptor 3, and the variables name the process.
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "outrider.daemon", "serve"])
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    import_gguf(folder / "models", "tiny", write_llama(folder / "t.gguf", context=2048))
    return folder / "models"


class Stream:
    """A long answer that is being read."""

    def __init__(self, url: str) -> None:
        body = {"model": "tiny", "prompt": "x", "options": LONG}
        request = urllib.request.Request(f"{url}/api/generate", json.dumps(body).encode())
        self._answer = urllib.request.urlopen(request, timeout=PATIENCE_S)
        self.last = json.loads(self._answer.readline())
        assert not self.last["done"]

    def finish(self) -> dict[str, object]:
        """The last object of the answer."""
        with self._answer:
            for line in self._answer:
                self.last = json.loads(line)
        found: dict[str, object] = self.last
        return found


def ask(url: str) -> int:
    """The status of a short request on a connection of its own."""
    body = {"model": "tiny", "prompt": "x", "stream": False, "options": {"num_predict": 1}}
    request = urllib.request.Request(f"{url}/api/generate", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return int(answer.status)


def test_a_stream_ends_whole_and_new_requests_are_told_to_come_back(
    root: Path, tmp_path: Path
) -> None:
    with start_daemon(root, tmp_path) as daemon:
        stream = Stream(daemon.url)
        daemon.process.send_signal(signal.SIGTERM)
        _wait_for(daemon.log, "1 running requests may take up to 30 s")
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(daemon.url)
        with refused.value as error:
            assert (error.code, error.headers["Retry-After"]) == (503, "5")
            assert b"stopping" in error.read()
        last = stream.finish()
        assert (last["done"], last["done_reason"]) == (True, "length")
        assert daemon.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("way", ["bound", "second signal"])
def test_the_wait_has_an_end(root: Path, tmp_path: Path, way: str) -> None:
    limit = "50ms" if way == "bound" else "10m"
    with start_daemon(root, tmp_path, env={"OUTRIDER_DRAIN_TIMEOUT": limit}) as daemon:
        stream = Stream(daemon.url)
        start_s = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        if way != "bound":
            _wait_for(daemon.log, "running requests may take")
            daemon.process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError, ValueError):
            stream.finish()
        assert daemon.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - start_s < PATIENCE_S
        assert "1 requests are ended before their time" in daemon.log.read_text()


def test_settings_are_read_again_at_sighup(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "outrider.env"
    path.write_text("OUTRIDER_MAX_QUEUE=5\n")
    env = {"OUTRIDER_SETTINGS_FILE": str(path), "OUTRIDER_MAX_QUEUE": "5"}
    page = {"Origin": "https://page.example"}
    with start_daemon(root, tmp_path, env=env) as daemon:
        assert daemon.get("/api/version", page)[0] == 403
        path.write_text("OUTRIDER_ORIGINS=https://page.example\nOUTRIDER_NUM_PARALLEL=2\n")
        daemon.process.send_signal(signal.SIGHUP)
        _wait_for(daemon.log, "applied: MAX_QUEUE, ORIGINS; needs a restart: NUM_PARALLEL")
        assert daemon.get("/api/version", page)[0] == 200
        path.write_text("OUTRIDER_ORIGINS=nonsense\n")
        daemon.process.send_signal(signal.SIGHUP)
        _wait_for(daemon.log, "the settings stay as they are: OUTRIDER_ORIGINS='nonsense'")
        assert daemon.get("/api/version", page)[0] == 200


@contextlib.contextmanager
def handed_over(root: Path, folder: Path, listener: socket.socket) -> Iterator[Managed]:
    """A daemon on this socket, with a manager to report to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = f"\0outrider-test-{os.getpid()}-{time.monotonic_ns()}"
        manager.bind(address)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OUTRIDER_", "OLLAMA_"))}
        env = {"NOTIFY_SOCKET": "@" + address[1:], "LISTEN_FDS": "1", "WATCHDOG_USEC": "900000"}
        env |= {"OUTRIDER_MODELS": str(root), "XDG_CACHE_HOME": str(folder)}
        process = subprocess.Popen(
            [sys.executable, "-c", EXEC, str(listener.fileno())],
            env=clean | env,
            pass_fds=[listener.fileno()],
        )
        try:
            yield Managed(process, manager)
        finally:
            process.kill()
            process.wait()


class Managed:
    """A daemon and what it has told its manager."""

    def __init__(self, process: subprocess.Popen[bytes], manager: socket.socket) -> None:
        self.process, self._manager, self.said = process, manager, ""

    def hear(self, text: str) -> None:
        """Wait until the daemon has said this."""
        deadline_s = time.monotonic() + PATIENCE_S
        while text not in self.said:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"{text!r} is not in {self.said!r}"
            assert select.select([self._manager], [], [], left_s)[0]
            self.said += self._manager.recv(1000).decode() + "\n"


def test_no_connection_is_refused_while_one_daemon_follows_another(
    root: Path, tmp_path: Path
) -> None:
    statuses: list[int] = []
    is_over = threading.Event()

    def ask_on_and_on(url: str) -> None:
        while not is_over.is_set():
            statuses.append(ask(url))

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with handed_over(root, tmp_path, listener) as first:
            first.hear(f"STATUS=serving on {url[7:]}; no model loaded, no request running")
            first.hear("WATCHDOG=1")
            stream = Stream(url)
            first.hear("1 model loaded, 1 request running")
            client = threading.Thread(target=ask_on_and_on, args=[url])
            client.start()
            first.process.send_signal(signal.SIGTERM)
            assert stream.finish()["done"] is True
            assert first.process.wait(PATIENCE_S) == 0
            first.hear("EXTEND_TIMEOUT_USEC=")
        with handed_over(root, tmp_path, listener) as second:
            second.hear("READY=1")
            before = len(statuses)
            while len(statuses) < before + 3:
                assert client.is_alive()
                time.sleep(0.01)
            is_over.set()
            client.join(PATIENCE_S)
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(PATIENCE_S) == 0
    assert set(statuses) == {200}


def test_a_burst_at_the_moment_of_the_stop_is_served_by_one_or_the_other(
    root: Path, tmp_path: Path
) -> None:
    """32 connections that come while the first daemon stops: what it has accepted, it answers."""
    statuses: list[int] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with handed_over(root, tmp_path, listener) as first:
            first.hear("READY=1")
            ask(url)
            clients = [
                threading.Thread(target=lambda: statuses.append(ask(url))) for _ in range(32)
            ]
            for i, client in enumerate(clients):
                client.start()
                if i == 16:
                    first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(PATIENCE_S) == 0
        with handed_over(root, tmp_path, listener):
            for client in clients:
                client.join(PATIENCE_S)
    assert statuses == [200] * 32


def _wait_for(log: Path, text: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while text not in log.read_text():
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.01)
