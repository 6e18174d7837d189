"""Clients that vanish without a word, a name that cannot be resolved, a log on a full disk."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from daemons import Daemon, start_daemon
from long.log_faults import find_faults
from long.processes import wait_until
from tiny import write_llama
from weights import import_gguf

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

IDLE_S = 2  # the settings of the daemon, short for the test
TCP_REPAIR = 19  # of tcp(7): a socket that is closed in this state sends nothing
CONNECTIONS = 100
CLOSED_S = 3.0 * IDLE_S
RESOLVED_S = 60.0  # a resolver may try several servers


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    root = tmp_path / "models"
    import_gguf(root, "tiny", write_llama(tmp_path / "tiny.gguf", seed=1))
    env = {
        "OUTRIDER_IDLE_TIMEOUT": f"{IDLE_S}s",
        "OUTRIDER_HEADER_TIMEOUT": f"{IDLE_S}s",
        "OUTRIDER_NUM_PARALLEL": "2",
        "OUTRIDER_DRAIN_TIMEOUT": "1s",
    }
    with start_daemon(root, tmp_path, env=env) as running:
        yield running
        assert not find_faults(running.log), find_faults(running.log)


def vanish(connection: socket.socket) -> None:
    """Closes the socket without a FIN or a reset, as when a cable is pulled."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError as error:
        pytest.skip(f"sockets cannot vanish here: {error}")
    connection.close()


def connect(daemon: Daemon, data: bytes) -> socket.socket:
    parts = urlsplit(daemon.url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(data)
    return connection


def post(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def descriptors(daemon: Daemon) -> int:
    return psutil.Process(daemon.process.pid).num_fds()


def test_half_open_connections_are_closed(daemon: Daemon, measurements: list[str]) -> None:
    """Clients that vanish while idle, in a header, in a body, and after an answer."""
    body = post("/api/chat", {"model": "tiny"})
    starts = (b"", b"POST /api/chat HTT", body[:-5], post("/api/show", {"model": "tiny"}))
    daemon.post("/api/show", {"model": "tiny"})
    before = descriptors(daemon)
    opened = [connect(daemon, starts[number % len(starts)]) for number in range(CONNECTIONS)]
    reached = wait_until(lambda: descriptors(daemon) >= before + CONNECTIONS * 3 // 4, 5)
    assert reached is not None
    for connection in opened:
        vanish(connection)
    took_s = wait_until(lambda: descriptors(daemon) <= before, CLOSED_S + 10)
    measurements.append(f"{CONNECTIONS} half-open connections were closed within {took_s} s")
    assert took_s is not None
    assert took_s < CLOSED_S
    assert daemon.get("/api/version")[0] == 200


def test_streams_whose_clients_vanish_free_their_slots(daemon: Daemon) -> None:
    endless = {"model": "tiny", "prompt": "on", "options": {"num_predict": 100_000}}
    assert daemon.post("/api/generate", {"model": "tiny"})[0] == 200
    for _ in range(3):
        streams = [connect(daemon, post("/api/generate", endless)) for _ in range(8)]
        assert select.select(streams, [], [], 30)[0]
        for stream in streams:
            vanish(stream)
        start_s = time.monotonic()
        short = {"model": "tiny", "prompt": "x", "stream": False, "options": {"num_predict": 2}}
        assert daemon.post("/api/generate", short)[0] == 200
        assert time.monotonic() - start_s < 10


def test_a_name_that_cannot_be_resolved(daemon: Daemon, measurements: list[str]) -> None:
    """One line says so; other requests do not wait for the resolver."""
    start_s = time.monotonic()
    lines = list(daemon.lines("/api/pull", {"model": "no-such-host.invalid/a/b:c"}))
    took_s = time.monotonic() - start_s
    measurements.append(f"pull from a host without an address failed after {took_s:.1f} s")
    assert "no-such-host.invalid" in lines[-1]["error"]
    assert "no such host is known" in lines[-1]["error"]
    assert took_s < RESOLVED_S


def test_a_log_that_cannot_be_written(daemon: Daemon, tmp_path: Path) -> None:
    """Its disk is full: the daemon serves all the same."""
    other = tmp_path / "other"
    other.mkdir()
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "outrider.daemon", "serve", "--port", "0"],
            env={**os.environ, "OUTRIDER_MODELS": str(tmp_path / "models")},
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    assert process.stdout
    try:
        url = process.stdout.readline().split("ready at ")[1].split(";")[0]
        unlogged = Daemon(url, process, daemon.log)
        asked = {"model": "tiny", "prompt": "x", "stream": False}
        for _ in range(3):
            assert unlogged.post("/api/generate", asked)[0] == 200
            assert unlogged.post("/api/generate", asked | {"model": "none"})[0] == 404
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()
