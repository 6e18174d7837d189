"""How do tests run a daemon? As a real process on a free loopback port, ended by its id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

READY = re.compile(r"Outrider is ready at (http://\S+);")
Json = dict[str, Any]


@dataclass(frozen=True)
class Daemon:
    """A running daemon and requests to it."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def post(self, path: str, body: object, *, method: str = "POST") -> tuple[int, Json]:
        """Status and JSON of one request; bytes and str bodies are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(path, data, method=method)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Json]:
        return self.send(path, None, headers=headers)

    def send(
        self,
        path: str,
        data: bytes | None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Json]:
        request = urllib.request.Request(self.url + path, data, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, _parse(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parse(error.read())

    def lines(self, path: str, body: object) -> Iterator[Json]:
        """The NDJSON lines of a streamed answer."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            for line in response:
                yield json.loads(line)

    def runners(self) -> list[psutil.Process]:
        """The runner processes that are alive."""
        children = psutil.Process(self.process.pid).children()
        return [c for c in children if "outrider.daemon.runner" in c.cmdline()]


@contextlib.contextmanager
def start_daemon(
    store_root: Path, folder: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """`outrider serve` on a free port; SIGTERM stops it, and its exit code has to be 0."""
    log = folder / "daemon.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "outrider.daemon", "serve", "--port", "0"],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(store_root, {"XDG_CACHE_HOME": str(folder), **(env or {})}),
        )
    try:
        yield Daemon(_wait_ready(process, log), process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
    assert code == 0, log.read_text()


def _environment(store_root: Path, extra: Mapping[str, str]) -> dict[str, str]:
    ours = ("OUTRIDER_", "OLLAMA_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**clean, "OUTRIDER_MODELS": str(store_root), **extra}


def _wait_ready(process: subprocess.Popen[str], log: Path) -> str:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if found := READY.search(log.read_text()):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise AssertionError(f"the daemon did not come up:\n{log.read_text()}")


def _parse(body: bytes) -> Json:
    try:
        value = json.loads(body)
    except ValueError:
        return {"text": body.decode("utf-8", "replace")}
    return value if isinstance(value, dict) else {"value": value}
