"""A disk that is full, read-only, slow, or does not answer: what needs no disk goes on, the rest
gets one clear error, and all is well again afterwards."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from daemons import Daemon, Json
from long.log_faults import find_faults
from long.namespaces import daemon_on, require_mounts, seen_by, slow_disk
from tiny import write_llama
from weights import import_gguf

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SIZE_MIB, LARGE_MIB = 8, 256  # of the disk; a reserve of 64 MiB stays free
QUICK_S = 1.0  # for what needs no disk, beside a disk that hangs
CHAT: Json = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hello"}],
    "stream": False,
    "options": {"num_predict": 4},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store that is copied to where the daemon looks for it."""
    require_mounts()
    source, root = tmp_path / "source", tmp_path / "models"
    root.mkdir()
    import_gguf(source, "tiny", write_llama(tmp_path / "tiny.gguf", seed=1))
    import_gguf(source, "other", write_llama(tmp_path / "other.gguf", seed=2))
    return root


def mounts(root: Path, size_mib: int = SIZE_MIB, options: str = "") -> str:
    """The store on a disk of that size."""
    source = root.parent / "source"
    lines = [f"mount -t tmpfs -o size={size_mib}m tmpfs {root}", f"cp -a {source}/. {root}/"]
    return "\n".join([*lines, *([f"mount -o remount,{options} {root}"] if options else [])])


def is_clear(daemon: Daemon, status: int, answer: Json, *words: str) -> None:
    """One line that names the cause, and nothing in the log that is a fault of the daemon."""
    error = answer.get("error", "")
    assert status in (200, 400, 500, 507), (status, answer)
    assert error, (status, answer)
    assert len(error.splitlines()) == 1, error
    assert any(word in error for word in words), (status, answer)
    assert not find_faults(daemon.log), find_faults(daemon.log)


def writes(daemon: Daemon) -> Iterator[tuple[str, int, Json]]:
    """The answers to all that writes."""
    data = write_bytes(1)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    yield "upload", *daemon.send(f"/api/blobs/{digest}", data)
    yield "copy", *daemon.post("/api/copy", {"source": "tiny", "destination": "new"})
    made = {"model": "made", "from": "tiny", "system": "x" * 5_000, "stream": False}
    yield "create", *daemon.post("/api/create", made)


def fill(path: Path) -> None:
    """Takes all room of a disk. Raises OSError at the end."""
    with path.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))


def write_bytes(seed: int) -> bytes:
    return hashlib.sha256(str(seed).encode()).digest() * 1_000


def test_a_full_disk(root: Path, tmp_path: Path) -> None:
    """Also the folder of profiles lies on it."""
    env = {"XDG_CACHE_HOME": str(root / "cache")}
    with daemon_on(mounts(root), root, tmp_path, env) as daemon:
        assert daemon.post("/api/chat", CHAT)[0] == 200
        filler = seen_by(daemon, root) / "filler"
        with pytest.raises(OSError, match="No space left"):
            fill(filler)
        for what, status, answer in writes(daemon):
            print(what, status, answer)
            is_clear(daemon, status, answer, "space", "No space left")
        for path, body in (("/api/chat", CHAT), ("/api/show", {"model": "tiny"})):
            assert daemon.post(path, body)[0] == 200
        assert daemon.post("/api/chat", CHAT | {"model": "other"})[0] == 200
        assert len(daemon.get("/api/tags")[1]["models"]) == 2
        assert not list((seen_by(daemon, root)).glob("**/.outrider-*"))
        assert daemon.post("/api/delete", {"model": "other"}, method="DELETE")[0] == 200
        filler.unlink()
        assert daemon.post("/api/copy", {"source": "tiny", "destination": "new"})[0] == 200
        assert not find_faults(daemon.log), find_faults(daemon.log)


def test_a_read_only_store(root: Path, tmp_path: Path) -> None:
    """The mount is read-only: modes alone would not stop root."""
    with daemon_on(mounts(root, LARGE_MIB, "ro"), root, tmp_path) as daemon:
        assert daemon.post("/api/chat", CHAT)[0] == 200
        assert daemon.post("/api/show", {"model": "tiny"})[0] == 200
        for what, status, answer in writes(daemon):
            print(what, status, answer)
            is_clear(daemon, status, answer, "Read-only file system")
        removed = daemon.post("/api/delete", {"model": "tiny"}, method="DELETE")
        print("delete", *removed)
        is_clear(daemon, *removed, "Read-only file system")
        pulled = daemon.post("/api/pull", {"model": "127.0.0.1:9/a/b:c", "stream": False})
        assert pulled[1]["error"]
        assert daemon.post("/api/chat", CHAT)[0] == 200


def test_a_slow_disk(root: Path, tmp_path: Path, measurements: list[str]) -> None:
    """Each open and each read takes 50 ms."""
    with (
        daemon_on(mounts(root), root, tmp_path) as daemon,
        slow_disk(seen_by(daemon, root)) as disk,
    ):
        disk.delay_s = 0.05
        with ThreadPoolExecutor(8) as pool:
            work = [
                pool.submit(daemon.post, "/api/chat", CHAT),
                pool.submit(daemon.post, "/api/chat", CHAT | {"model": "other"}),
                *(pool.submit(daemon.post, "/api/show", {"model": "tiny"}) for _ in range(3)),
                *(pool.submit(daemon.get, "/api/tags") for _ in range(3)),
            ]
            slowest_s = 0.0
            while not all(item.done() for item in work):
                slowest_s = max(slowest_s, timed(daemon, "/api/version"))
            assert [item.result()[0] for item in work] == [200] * len(work)
        assert disk.num_waits > 10
        measurements.append(
            f"a disk with {disk.num_waits} accesses of 50 ms: others waited {slowest_s:.2f} s"
        )
        assert slowest_s < QUICK_S
        assert not find_faults(daemon.log)


def test_a_disk_that_does_not_answer(root: Path, tmp_path: Path, measurements: list[str]) -> None:
    """What is loaded goes on streaming, and the daemon answers; then the disk comes back."""
    with (
        daemon_on(mounts(root), root, tmp_path) as daemon,
        slow_disk(seen_by(daemon, root)) as disk,
    ):
        assert daemon.post("/api/chat", CHAT)[0] == 200
        stream = daemon.lines("/api/generate", {"model": "tiny", "prompt": "on", "options": LONG})
        next(stream)
        disk.hang()
        with ThreadPoolExecutor(64) as pool:
            stuck = [pool.submit(daemon.get, "/api/tags") for _ in range(20)]
            stuck += [pool.submit(daemon.post, "/api/show", {"model": "other"}) for _ in range(20)]
            stuck += [pool.submit(daemon.post, "/api/chat", CHAT | {"model": "other"})]
            time.sleep(0.5)
            slowest_s = max(timed(daemon, p) for p in ("/api/version", "/metrics") * 5)
            lines = [line for line, _ in zip(stream, range(30), strict=False)]
            stream.close()  # type: ignore[attr-defined]
            disk.go_on()
            assert {item.result()[0] for item in stuck} == {200}
        measurements.append(f"a disk that hangs: others waited {slowest_s:.2f} s at most")
        assert len(lines) == 30
        assert slowest_s < QUICK_S
        assert daemon.post("/api/chat", CHAT)[0] == 200


LONG = {"num_predict": 2_000, "temperature": 0}


def timed(daemon: Daemon, path: str) -> float:
    start_s = time.monotonic()
    assert daemon.get(path)[0] == 200
    return time.monotonic() - start_s
