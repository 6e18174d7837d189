"""Pull and push with a real registry server, through kills and a full disk (CONTRACT 6.4)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from fault_proxy import Fault, FaultProxy
from ollama_folder import files
from outrider.models import manifest as media
from outrider.models.errors import PullFailed
from outrider.models.manifest import Manifest
from outrider.models.name import Name
from outrider.models.sources.progress import PullProgress
from outrider.models.sources.pull import pull
from outrider.models.sources.push import push
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.store import Store
from registry_server import RegistryServer, digest_of

pytestmark = pytest.mark.contract

PLACES = (  # where Debian's package, or its unpacked copy, keeps the server
    *("docker-registry", "registry"),
    *(str(Path(".cache/docker-registry/usr/bin/docker-registry").absolute()),),
)
MIB = 1 << 20
WEIGHTS = random.Random(5).randbytes(40 * MIB)
CONFIG = json.dumps({"model_format": "gguf"}).encode()
RATE_BLOB_MIB = int(os.environ.get("OUTRIDER_TEST_BLOB_MIB", "512"))  # of the timed download


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of Docker's registry server."""
    binary = next((found for place in PLACES if (found := shutil.which(place))), None)
    if binary is None:
        pytest.skip(
            "no docker-registry: install that Debian package, or unpack it: apt-get download "
            "docker-registry && dpkg-deb -x docker-registry_*.deb .cache/docker-registry"
        )
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "root")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [binary, "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/v2/"))
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def wait_for(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < end, "it did not come up"
        time.sleep(0.02)


def add(store: Store, reference: RemoteReference, weights: bytes = WEIGHTS) -> bytes:
    """Stores a model with a drafter and an unknown layer; returns its manifest."""
    config = store.blobs.add_bytes(CONFIG)
    layers = (
        store.blobs.add_bytes(weights).layer(media.MODEL),
        store.blobs.add_bytes(b"drafter").layer(media.DRAFT),
        store.blobs.add_bytes(b"?").layer("application/vnd.ollama.image.new"),
    )
    store.write(reference.name, Manifest(config.layer(media.CONFIG_TYPE), layers))
    return store.manifest_bytes(reference.name)


async def run(steps: object) -> list[PullProgress]:
    async with aclosing(steps) as told:  # type: ignore[type-var]
        return [progress async for progress in told]  # type: ignore[attr-defined]


async def test_there_and_back(registry: str, tmp_path: Path) -> None:
    reference = RemoteReference.parse(f"{registry}/me/mine:1b", insecure=True)
    sender, receiver = Store(tmp_path / "a"), Store(tmp_path / "b")
    manifest = add(sender, reference)
    assert (await run(push(sender, reference, Network())))[-1].status == "success"
    assert (await run(pull(receiver, reference, Network())))[-1].status == "success"
    assert receiver.manifest_bytes(reference.name) == manifest
    model = receiver.resolve(reference.name)
    assert model.model_path
    assert model.model_path.read_bytes() == WEIGHTS
    assert model.draft_path
    assert files(sender.root) == files(receiver.root)

    other = RemoteReference.parse(f"{registry}/you/yours", insecure=True)
    sender.copy(reference.name, other.name)
    told = await run(push(sender, other, Network()))
    assert told[-1].status == "success"
    assert (await run(push(sender, other, Network())))[-1].status == "success"
    with pytest.raises(PullFailed, match="file does not exist"):
        await run(
            pull(receiver, RemoteReference.parse(f"{registry}/me/no", insecure=True), Network())
        )


VICTIM = """
import asyncio, sys
from pathlib import Path
from outrider.models.sources.pull import pull
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.store import Store

async def main():
    reference = RemoteReference.parse(sys.argv[2], insecure=True)
    async for progress in pull(Store(Path(sys.argv[1])), reference, Network()):
        print(progress.completed or 0, flush=True)

asyncio.run(main())
"""


async def test_a_killed_pull_goes_on(tmp_path: Path) -> None:
    async with RegistryServer().serve() as server, FaultProxy(server.host).serve() as proxy:
        server.add("me/mine", "latest", CONFIG, [("model", WEIGHTS)])
        path = f"/blobs/{digest_of(WEIGHTS)}"
        proxy.faults = [Fault(path, stall_after=10 * MIB)]
        name = f"{proxy.host}/me/mine"
        store = Store(tmp_path / "models")
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", VICTIM, str(store.root), name),
            stdout=asyncio.subprocess.PIPE,
        )
        assert victim.stdout is not None
        while int(await victim.stdout.readline()) < 8 * MIB:
            pass
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        assert not store.list()

        proxy.seen.clear()
        told = await run(pull(store, RemoteReference.parse(name, insecure=True), Network()))
        assert told[-1].status == "success"
        (asked,) = [headers["Range"] for _, where, headers in proxy.seen if path in where]
        assert int(asked.removeprefix("bytes=").partition("-")[0]) >= 8 * MIB
        model = store.resolve(Name.parse(name))
        assert model.model_path
        assert model.model_path.read_bytes() == WEIGHTS
        assert not [left for left in files(store.root) if "outrider" in left]


@pytest.mark.parametrize("delay_s", [0.3, 0.45, 0.6, 0.75, 0.9, 1.1])
async def test_killed_at_any_moment(tmp_path: Path, delay_s: float) -> None:
    """The model is there or it is not; the next pull leaves nothing but the model."""
    async with RegistryServer().serve() as server:
        server.add("me/mine", "latest", CONFIG, [("model", WEIGHTS), ("license", b"free")])
        name = f"{server.host}/me/mine"
        store = Store(tmp_path / "models")
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", VICTIM, str(store.root), name),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await asyncio.sleep(delay_s)
        if victim.returncode is None:
            victim.send_signal(signal.SIGKILL)
        await victim.wait()
        for model in store.list():
            assert model.model_path
            assert model.model_path.read_bytes() == WEIGHTS
        told = await run(pull(store, RemoteReference.parse(name, insecure=True), Network()))
        assert told[-1].status == "success"
        assert len(files(store.root)) == 4


async def test_two_processes_pull_the_same_model(tmp_path: Path) -> None:
    async with RegistryServer().serve() as server:
        server.add("me/mine", "latest", CONFIG, [("model", WEIGHTS)])
        name, store = f"{server.host}/me/mine", Store(tmp_path / "models")
        clients = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", VICTIM, str(store.root), name),
                stdout=asyncio.subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        assert [await client.wait() for client in clients] == [0, 0]
        assert server.count("GET", digest_of(WEIGHTS)) == 1
        assert len(files(store.root)) == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)])
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_disk_that_fills_up(small_disk: Path) -> None:
    """Said before if it is known, else when it happens; with room the next pull goes on."""
    async with RegistryServer().serve() as server, FaultProxy(server.host).serve() as proxy:
        server.add("me/mine", "latest", CONFIG, [("model", WEIGHTS)])
        store = Store(small_disk / "models")
        reference = RemoteReference.parse(f"{proxy.host}/me/mine", insecure=True)
        other = small_disk / "other"
        other.write_bytes(bytes(40 * MIB))
        with pytest.raises(PullFailed, match=r"42 MB are needed, .*2[0-9] MB are free; make room"):
            await run(pull(store, reference, Network()))

        other.unlink()
        proxy.faults = [Fault(f"/blobs/{digest_of(WEIGHTS)}", chunk_s=0.0001, times=2)]
        task = asyncio.create_task(run(pull(store, reference, Network())))
        await proxy.slow.wait()
        other.write_bytes(bytes(40 * MIB))
        with pytest.raises(PullFailed, match=r"cannot be stored in .*No space left"):
            await task
        other.unlink()
        assert (await run(pull(store, reference, Network())))[-1].status == "success"
        assert len(files(store.root)) == 3


def upload(host: str, path: Path) -> str:
    """Puts a file there with curl; returns its digest."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            sha256.update(chunk)
    digest = f"sha256:{sha256.hexdigest()}"
    request = urllib.request.Request(f"http://{host}/v2/me/big/blobs/uploads/", method="POST")
    with urllib.request.urlopen(request) as answer:
        target = f"{answer.headers['Location']}&digest={digest}"
    curl("-T", str(path), "-H", "Content-Type: application/octet-stream", target)
    return digest


def curl(*words: str) -> float:
    """Seconds that curl takes."""
    started_s = time.monotonic()
    subprocess.run(["curl", "-sSf", *words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started_s


MEASURED = """
import asyncio, sys, time
from pathlib import Path
from outrider.models.sources.download import DownloadPolicy, RemoteFile, download
from outrider.models.sources.transport import HttpClient

async def main():
    remote = RemoteFile(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    started_s = time.monotonic()
    file = await download(
        remote, Path(sys.argv[4]), lambda _: None, is_stored=lambda: False,
        http=lambda: HttpClient(insecure=True), policy=DownloadPolicy(),
    )
    assert file is not None
    file.commit(Path(sys.argv[4] + "-done"))
    elapsed_s = time.monotonic() - started_s
    status = Path("/proc/self/status").read_text()
    print(elapsed_s, int(status.partition("VmHWM:")[2].split()[0]) / 1024)

asyncio.run(main())
"""


@pytest.mark.timeout(600)
def test_the_rate_beside_curl_and_flat_memory(
    registry: str, tmp_path: Path, measurements: list[str]
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl to compare with")
    source, target = tmp_path / "source", tmp_path / "target"
    chunk = random.Random(9).randbytes(MIB)
    with source.open("wb") as file:
        for index in range(RATE_BLOB_MIB):
            file.write(index.to_bytes(8, "little") + chunk[8:])
    digest = upload(registry, source)
    source.unlink()
    url = f"http://{registry}/v2/me/big/blobs/{digest}"
    ours_s, curl_s, hashed_s, rss_mib = [], [], [], 0.0
    for _ in range(3):
        curl_s.append(curl("-o", str(target), url))
        started_s = time.monotonic()
        with target.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest.removeprefix("sha256:")
        hashed_s.append(curl_s[-1] + time.monotonic() - started_s)
        target.unlink()
        words = [sys.executable, "-c", MEASURED, url, digest, str(RATE_BLOB_MIB * MIB), str(target)]
        told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        ours_s.append(float(told[0]))
        rss_mib = max(rss_mib, float(told[1]))
        Path(f"{target}-done").unlink()
    measurements.append(
        f"download of {RATE_BLOB_MIB} MiB, hashed and on disk, in MiB/s: "
        f"{RATE_BLOB_MIB / min(ours_s):.0f}; curl {RATE_BLOB_MIB / min(curl_s):.0f}, "
        f"curl and then the hash {RATE_BLOB_MIB / min(hashed_s):.0f}; at most {rss_mib:.0f} MiB"
    )
    assert rss_mib < 150
    assert min(hashed_s) / min(ours_s) > 0.5  # the figures are reported: the machine is shared
