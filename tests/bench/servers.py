"""How are the two servers started, measured and stopped, on free loopback ports?"""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from daemons import start_daemon
from outrider.daemon.protocol import Load

from .failure import BenchFailed
from .load import Api, OutriderApi, PeerApi

START_S = 120.0  # until a server has loaded its model, at most
STOP_S = 20.0  # between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    pid: int
    api: Api

    def rss_bytes(self) -> int:
        """Resident memory of all its processes."""
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family)


@contextmanager
def start_outrider(store_root: Path, model: str, load: Load, folder: Path) -> Iterator[Server]:
    """Outrider, which loads the model with the first request."""
    env = {
        "OUTRIDER_NUM_PARALLEL": str(load.slots),
        "OUTRIDER_CONTEXT_LENGTH": str(load.num_ctx),
        "OUTRIDER_KV_CACHE_TYPE": load.kv_type,
        "OUTRIDER_KEEP_ALIVE": "-1",
    }
    options: dict[str, object] = {"num_batch": load.batch}
    with start_daemon(store_root, folder, env=env) as daemon:
        yield Server(daemon.url, daemon.process.pid, OutriderApi(model, options))


@contextmanager
def start_peer(
    binary: Path, load: Load, folder: Path, flags: Sequence[str] = ()
) -> Iterator[Server]:
    """llama-server with the slots, cells, threads and batch of `load`, further `flags`, and its own
    defaults for the rest."""
    port = _free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "peer.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(binary), *_peer_flags(load), *flags, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_healthy(url, process, log)
        yield Server(url, process.pid, PeerApi())
    finally:
        _end(process)


def _peer_flags(load: Load) -> list[str]:
    flags = {
        "-m": load.model,
        "-np": load.slots,
        "-c": load.cells,
        "-b": load.batch,
        "-ub": load.batch,
        "-t": load.threads,
        "-ngl": load.gpu_layers if load.gpu_layers >= 0 else "all",  # as the engine does
        "-ctk": load.kv_type,
        "-ctv": load.kv_type,
    }
    return ["-kvu", *(str(word) for flag in flags.items() for word in flag)]


def _wait_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise BenchFailed(f"llama-server did not come up:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
