"""Does a pull survive what networks and registries do, and does it say what it does not?"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from fault_proxy import Fault, FaultProxy
from ollama_folder import files
from outrider.models.errors import PullFailed
from outrider.models.name import Name
from outrider.models.sources.download import DownloadPolicy
from outrider.models.sources.progress import PullProgress
from outrider.models.sources.pull import pull
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.sources.resumable import download_path
from outrider.models.sources.retry import RetryPolicy
from outrider.models.store import Store
from registry_server import RegistryServer, digest_of

pytestmark = pytest.mark.contract

CONFIG = json.dumps({"model_format": "gguf"}).encode()
WEIGHTS = random.Random(1).randbytes(300_000)
DIGEST = digest_of(WEIGHTS)
PART = 64_000
RETRY = RetryPolicy(tries=3, first_s=0.001, cap_s=0.002, patience_s=1.0)
POLICY = DownloadPolicy(part_bytes=PART, connections=2, stall_s=0.1, retry=RETRY)
NAME = "user/tiny"


@pytest.fixture
async def registry() -> AsyncIterator[RegistryServer]:
    async with RegistryServer().serve() as server:
        server.add(NAME, "latest", CONFIG, [("model", WEIGHTS), ("license", b"free")])
        yield server


@pytest.fixture
async def proxy(registry: RegistryServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(registry.host).serve() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def network() -> Network:
    return Network(policy=POLICY, find_key=lambda: None)


def reference(proxy: FaultProxy | RegistryServer) -> RemoteReference:
    return RemoteReference.parse(f"{proxy.host}/{NAME}", insecure=True)


async def lines(store: Store, proxy: FaultProxy, network: Network) -> list[PullProgress]:
    async with aclosing(pull(store, reference(proxy), network)) as steps:
        return [progress async for progress in steps]


async def error(store: Store, proxy: FaultProxy, network: Network) -> str:
    with pytest.raises(PullFailed) as raised:
        await lines(store, proxy, network)
    assert not list(store.list())
    return str(raised.value)


def weights(store: Store, proxy: FaultProxy) -> bytes:
    model = store.resolve(Name.parse(f"{proxy.host}/{NAME}"))
    assert model.model_path
    return model.model_path.read_bytes()


WEIGHTS_PATH = f"/blobs/{DIGEST}"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(WEIGHTS_PATH, cut_after=10_000, times=4),
        Fault(WEIGHTS_PATH, cut_after=0, times=2),
        Fault(WEIGHTS_PATH, stall_after=5_000, times=2),
        Fault(WEIGHTS_PATH, status=500, times=2),
        Fault(WEIGHTS_PATH, status=503, headers={"Retry-After": "0"}, times=2),
        Fault(WEIGHTS_PATH, status=429, headers={"Retry-After": "0"}, times=2),
        Fault("/manifests/", status=502, times=2),
        Fault("/manifests/", cut_after=5, times=2),
        Fault(WEIGHTS_PATH, whole=True, times=99),
        Fault(WEIGHTS_PATH, whole=True, cut_after=100_000, times=4),
    ],
    ids=lambda fault: repr(fault).replace(DIGEST, ""),
)
async def test_what_passes_is_survived(
    store: Store, proxy: FaultProxy, network: Network, fault: Fault
) -> None:
    proxy.faults = [replace(fault)]
    patient = replace(network, policy=replace(POLICY, retry=replace(RETRY, tries=9)))
    told = await lines(store, proxy, patient)
    assert told[-1].status == "success"
    assert weights(store, proxy) == WEIGHTS
    assert not [path for path in files(store.root) if "outrider" in path]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            Fault("/manifests/", status=401, times=9),
            r"pull model manifest: unauthorized: access denied; the model is private",
        ),
        (Fault("/manifests/", status=403, body="no", times=9), r"pull model manifest: 403: no; "),
        (Fault("/manifests/", status=404, times=9), r"pull model manifest: file does not exist$"),
        (
            Fault("/manifests/", status=429, headers={"Retry-After": "7200"}),
            r"pull model manifest: 429: .*; too many requests were made: try again in 7200 s",
        ),
        (
            Fault("/manifests/", status=500, body="oops", times=9),
            r"pull model manifest: 500: oops; .* has a fault of its own: try again later",
        ),
        (Fault(WEIGHTS_PATH, status=403, times=9), "answered 403.*; your account or address"),
        (Fault(WEIGHTS_PATH, status=404, times=9), "answered 404.*; check the name"),
        (Fault(WEIGHTS_PATH, cut_after=0, times=99), "cannot be reached: .*; check the network"),
        (Fault(WEIGHTS_PATH, stall_after=0, times=99), "it sends nothing; check the network"),
    ],
    ids=lambda value: repr(value).replace(DIGEST, "") if isinstance(value, Fault) else "",
)
async def test_what_stays_is_said(
    store: Store, proxy: FaultProxy, network: Network, fault: Fault, text: str
) -> None:
    proxy.faults = [replace(fault)]
    assert re.search(text, await error(store, proxy, network))


async def test_a_wrong_byte_is_found_and_nothing_of_it_kept(
    store: Store, proxy: FaultProxy, network: Network
) -> None:
    proxy.faults = [Fault(WEIGHTS_PATH, flip=True)]
    text = await error(store, proxy, network)
    start = f"digest mismatch, file must be downloaded again: want {DIGEST}, got sha256:"
    assert text.startswith(start)
    assert not download_path(store.blobs.root, DIGEST[7:]).exists()
    assert (await lines(store, proxy, network))[-1].status == "success"


async def test_a_damaged_leftover_is_fetched_a_second_time(
    store: Store, proxy: FaultProxy, network: Network
) -> None:
    proxy.faults = [Fault(WEIGHTS_PATH, status=404, times=1)]
    await error(store, proxy, network)
    left = download_path(store.blobs.root, DIGEST[7:])
    with left.open("r+b") as file:  # all parts are said to be there, and none is
        counts = [min(PART, len(WEIGHTS) - start) for start in range(0, len(WEIGHTS), PART)]
        file.seek(len(WEIGHTS) + 24)
        file.write(b"".join(count.to_bytes(8, "little") for count in counts))
    assert (await lines(store, proxy, network))[-1].status == "success"
    assert weights(store, proxy) == WEIGHTS


async def test_the_next_pull_goes_on_where_the_last_one_ended(
    store: Store, proxy: FaultProxy, network: Network
) -> None:
    one = replace(network, policy=replace(POLICY, connections=1))
    proxy.faults = [Fault(WEIGHTS_PATH, times=2), Fault(WEIGHTS_PATH, status=403)]
    await error(store, proxy, one)
    proxy.seen.clear()
    assert (await lines(store, proxy, one))[-1].status == "success"
    asked = [headers["Range"] for _, path, headers in proxy.seen if WEIGHTS_PATH in path]
    assert asked[0] == f"bytes={2 * PART}-{3 * PART - 1}"
    assert len(asked) == 3
    assert weights(store, proxy) == WEIGHTS


async def test_credentials_are_not_forwarded_to_another_host(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    registry.wants_token = True
    async with FaultProxy(registry.host).serve() as storage:
        registry.redirect_blobs = f"http://{storage.host}"
        open_registry = RegistryServer(blobs=registry.blobs)
        async with open_registry.serve():
            storage.target = open_registry.host
            async with aclosing(pull(store, reference(registry), network)) as steps:
                assert [progress async for progress in steps][-1].status == "success"
        fetched = [headers for _, path, headers in storage.seen if WEIGHTS_PATH in path]
        assert len(fetched) == 5
        assert {path for _, path, _ in storage.seen if WEIGHTS_PATH in path} == {
            f"/v2/{NAME}{WEIGHTS_PATH}?signed=yes%2Bno"
        }
        assert not any("Authorization" in headers for headers in fetched)
    asked = [headers for _, path, headers in registry.log if "blobs" in path]
    assert all(headers["Authorization"] == f"Bearer {registry.token}" for headers in asked)


async def test_two_clients_share_one_download(
    store: Store, proxy: FaultProxy, network: Network
) -> None:
    proxy.faults = [Fault(WEIGHTS_PATH, times=9, chunk_s=0.001)]
    one, two = await asyncio.gather(lines(store, proxy, network), lines(store, proxy, network))
    assert one[-1] == two[-1] == PullProgress("success")
    assert proxy.count("GET", WEIGHTS_PATH) == 5  # one request for each part
    assert weights(store, proxy) == WEIGHTS


async def test_a_client_that_leaves_stops_no_other(
    store: Store, proxy: FaultProxy, network: Network
) -> None:
    slow = replace(network, policy=replace(POLICY, stall_s=5.0))
    proxy.faults = [Fault(WEIGHTS_PATH, times=9, chunk_s=0.002)]
    leaving = asyncio.create_task(lines(store, proxy, slow))
    staying = asyncio.create_task(lines(store, proxy, slow))
    await proxy.slow.wait()
    leaving.cancel()
    assert (await staying)[-1].status == "success"
    assert proxy.count("GET", WEIGHTS_PATH) == 5


async def test_the_last_client_that_leaves_ends_the_download(
    store: Store, proxy: FaultProxy, network: Network
) -> None:
    slow = replace(network, policy=replace(POLICY, stall_s=5.0))
    proxy.faults = [Fault(WEIGHTS_PATH, times=9, stall_after=20_000)]
    tasks = [asyncio.create_task(lines(store, proxy, slow)) for _ in range(2)]
    await proxy.stalled.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    proxy.faults = []
    assert (await lines(store, proxy, network))[-1].status == "success"  # the lock is free
    assert weights(store, proxy) == WEIGHTS


async def test_free_space_is_checked_before_with_both_numbers(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    wire = json.loads(registry.manifests[NAME, "latest"])
    wire["layers"][0]["size"] = 10**18
    registry.manifests[NAME, "latest"] = json.dumps(wire).encode()
    with pytest.raises(PullFailed, match=r"\d{9,} MB are needed, \d+ MB are free; make room"):
        async with aclosing(pull(store, reference(registry), network)) as steps:
            [progress async for progress in steps]
    assert registry.count("GET", WEIGHTS_PATH) == 0


async def test_a_trickle_is_a_stall(store: Store, proxy: FaultProxy, network: Network) -> None:
    """A connection that gives less than 1 KiB/s is given up, and goes on elsewhere."""
    proxy.faults = [Fault(WEIGHTS_PATH, times=2, chunk_s=0.09, stall_after=20)]
    started_s = time.monotonic()
    assert (await lines(store, proxy, network))[-1].status == "success"
    assert time.monotonic() - started_s < 2.0
