"""SIGKILL of the daemon, and of the command, while they pull, create, copy and delete.

`contract/test_kills.py` kills the code that writes; here whole programs are killed over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pytest
from daemons import Daemon, start_daemon
from long.log_faults import find_faults
from long.sizes import SIZES
from outrider.models.errors import ModelNotFound
from outrider.models.name import Name
from outrider.models.store import Store
from registry_server import RegistryServer
from tiny import write_llama
from weights import import_gguf
from wholeness import assert_nothing_grows, assert_whole

pytestmark = pytest.mark.long

WORK = ("pull", "create", "copy", "delete")
KEPT = frozenset({"kept:latest", "shares:latest"})
START_S = 3.0  # that a daemon and a kill take on a busy machine
LIMIT_S = 120 + SIZES.kills * START_S * 2


@contextlib.contextmanager
def serving(registry: RegistryServer) -> Iterator[None]:
    """The registry in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def run() -> None:
        async with registry.serve():
            ready.set()
            await stop.wait()

    def work() -> None:
        loop.run_until_complete(run())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(30)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@dataclass(frozen=True, slots=True)
class KillScene:
    """A store with models that nobody touches, and what is written into it."""

    store: Store
    weights: Path  # of the model that is made
    target: str  # its name, from the registry where it is pulled

    def prepare(self, work: str) -> None:
        """Takes away what an earlier round has left, or makes what is to be deleted."""
        with contextlib.suppress(ModelNotFound):
            self.store.delete(Name.parse(self.target))
        if work == "delete":
            import_gguf(self.store.root, self.target, self.weights, system="be brief")

    def check(self) -> None:
        others = {Name.parse(self.target).short}
        assert_whole(self.store, KEPT, others)
        assert_nothing_grows(self.store)
        assert_whole(self.store, KEPT, others)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "new.gguf", seed=2, vocab=4000)


@pytest.fixture
def scene(tmp_path: Path, weights: Path) -> Iterator[KillScene]:
    store = Store(tmp_path / "models")
    import_gguf(store.root, "kept", write_llama(tmp_path / "kept.gguf", seed=1), system="be kind")
    store.copy(Name.parse("kept"), Name.parse("shares"))
    registry = RegistryServer()
    registry.add(
        "library/target",
        "latest",
        json.dumps({"model_format": "gguf"}).encode(),
        [("model", weights.read_bytes()), ("license", b"Do as you like.")],
    )
    with serving(registry):
        yield KillScene(store, weights, f"{registry.host}/library/target:latest")


def post(url: str, path: str, body: object, method: str = "POST") -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = response.read()
    assert b'"error"' not in answer, answer


def ask(url: str, work: str, scene: KillScene) -> None:
    """The work by requests to the daemon. Raises OSError or HTTPException if that ends."""
    name = scene.target
    if work == "pull":
        post(url, "/api/pull", {"model": name, "insecure": True})
    elif work == "create":
        data = scene.weights.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        post(url, f"/api/blobs/{digest}", data)
        post(url, "/api/create", {"model": name, "files": {"a.gguf": digest}})
    elif work == "copy":
        post(url, "/api/copy", {"source": "kept", "destination": name})
    else:
        post(url, "/api/delete", {"model": name}, "DELETE")


def command(work: str, scene: KillScene, folder: Path) -> list[str]:
    """The work as a command line."""
    (folder / "Modelfile").write_text(f"FROM {scene.weights}\n")
    return {
        "pull": ["pull", "--insecure", scene.target],
        "create": ["create", scene.target, "-f", str(folder / "Modelfile")],
        "copy": ["cp", "kept", scene.target],
        "delete": ["rm", scene.target],
    }[work]


def measured(work: Callable[[], None]) -> float:
    start_s = time.monotonic()
    work()
    return time.monotonic() - start_s


@contextlib.contextmanager
def victim(scene: KillScene, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A daemon that is killed at the end of the block, if it is not dead by then."""
    with (folder / "victim.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "outrider.daemon", "serve", "--port", "0"],
            env={
                **os.environ,
                "OUTRIDER_MODELS": str(scene.store.root),
                "XDG_CACHE_HOME": str(folder),
            },
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout
    try:
        yield process, process.stdout.readline().split("ready at ")[1].split(";")[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("work", WORK)
def test_a_daemon_killed_at_its_work(
    work: str, scene: KillScene, tmp_path: Path, measurements: list[str]
) -> None:
    with victim(scene, tmp_path) as (_, url):
        times_s = []
        for _ in range(2):
            scene.prepare(work)
            times_s.append(measured(lambda: ask(url, work, scene)))
    draw, interrupted = random.Random(SIZES.seed), 0
    for _ in range(SIZES.kills):
        scene.prepare(work)
        with victim(scene, tmp_path) as (process, url):
            timer = threading.Timer(
                draw.uniform(0, min(times_s)), process.send_signal, (signal.SIGKILL,)
            )
            timer.start()
            try:
                ask(url, work, scene)
            except (OSError, HTTPException):  # before an answer, or within it
                interrupted += 1
            timer.join()
        scene.check()
    measurements.append(
        f"daemon killed at {work}: {interrupted} of {SIZES.kills} kills within "
        f"{min(times_s) * 1e3:.0f} ms interrupted it"
    )
    assert not find_faults(tmp_path / "victim.log")


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("work", WORK)
def test_a_command_killed_at_its_work(
    work: str, scene: KillScene, tmp_path: Path, measurements: list[str]
) -> None:
    line = [sys.executable, "-m", "outrider.daemon", *command(work, scene, tmp_path)]
    with start_daemon(scene.store.root, tmp_path) as daemon:
        scene.prepare(work)
        usual_s = measured(lambda: run(line, daemon))
        draw, interrupted = random.Random(SIZES.seed), 0
        for _ in range(SIZES.kills):
            scene.prepare(work)
            interrupted += run(line, daemon, after_s=draw.uniform(0, usual_s)) != 0
            wait_for_quiet(daemon)
            scene.check()
        assert daemon.get("/api/tags")[0] == 200
        assert not find_faults(daemon.log), find_faults(daemon.log)
    measurements.append(
        f"command killed at {work}: {interrupted} of {SIZES.kills} kills within "
        f"{usual_s * 1e3:.0f} ms interrupted it"
    )


def run(line: list[str], daemon: Daemon, after_s: float | None = None) -> int:
    """The exit status of a command, which is killed after that time, if one is given."""
    process = subprocess.Popen(
        line,
        env={**os.environ, "OUTRIDER_HOST": daemon.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.kill()
    _, told = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), told
    return process.returncode


def wait_for_quiet(daemon: Daemon) -> None:
    """Until the daemon has noticed that its client is gone: its lines of the log come to rest."""
    size, rest = -1, 0
    while rest < 5:
        now = daemon.log.stat().st_size
        rest = rest + 1 if now == size else 0
        size = now
        time.sleep(0.02)
