"""Does a registry have all of a model after a push, and none of it by accident?"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from fault_proxy import Fault, FaultProxy
from outrider.models import manifest as media
from outrider.models.errors import PushFailed
from outrider.models.manifest import Manifest
from outrider.models.sources import push as module
from outrider.models.sources.download import DownloadPolicy
from outrider.models.sources.progress import PullProgress
from outrider.models.sources.push import push
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.sources.retry import RetryPolicy
from outrider.models.store import Store
from registry_server import RegistryServer, digest_of

pytestmark = pytest.mark.unit

WEIGHTS = random.Random(3).randbytes(250_000)
RETRY = RetryPolicy(tries=3, first_s=0.001, cap_s=0.002)
NETWORK = Network(policy=DownloadPolicy(retry=RETRY), find_key=lambda: None)
DIGEST = digest_of(WEIGHTS)


@pytest.fixture
async def registry() -> AsyncIterator[RegistryServer]:
    async with RegistryServer().serve() as server:
        yield server


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", 100_000)
    monkeypatch.setattr(module, "_READ_BYTES", 30_000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def add(store: Store, reference: RemoteReference, source: str | None = None) -> bytes:
    """Stores the model; returns its manifest."""
    config = store.blobs.add_bytes(json.dumps({"model_format": "gguf"}).encode())
    weights = store.blobs.add_bytes(WEIGHTS)
    layers = (
        weights.layer(media.MODEL, source),
        store.blobs.add_bytes(b"free").layer(media.LICENSE),
    )
    store.write(reference.name, Manifest(config.layer(media.CONFIG_TYPE), layers))
    return store.manifest_bytes(reference.name)


def reference(server: RegistryServer | FaultProxy) -> RemoteReference:
    return RemoteReference.parse(f"{server.host}/me/mine:1b", insecure=True)


async def lines(store: Store, target: RemoteReference) -> list[PullProgress]:
    async with aclosing(push(store, target, NETWORK)) as steps:
        return [progress async for progress in steps]


async def test_a_push(store: Store, registry: RegistryServer) -> None:
    manifest = add(store, reference(registry))
    told = await lines(store, reference(registry))
    assert registry.manifests["me/mine", "1b"] == manifest
    assert registry.blobs["me/mine", DIGEST] == WEIGHTS
    statuses = list(dict.fromkeys(line.status for line in told))
    assert statuses[0] == "retrieving manifest"
    assert statuses[-2:] == ["pushing manifest", "success"]
    last = [line for line in told if line.digest == DIGEST][-1]
    full = len(WEIGHTS)
    assert last == PullProgress(f"pushing {DIGEST[7:19]}", DIGEST, full, full)
    ranges = [h["Content-Range"] for m, _, h in registry.log if m == "PATCH"]
    assert {"0-99999", "100000-199999", "200000-249999"} < set(ranges)
    (etag,) = [path for m, path, _ in registry.log if m == "PUT" and DIGEST[7:] in path]
    assert etag.endswith("-3")


async def test_a_second_push_sends_no_blob(store: Store, registry: RegistryServer) -> None:
    add(store, reference(registry))
    await lines(store, reference(registry))
    registry.log.clear()
    assert (await lines(store, reference(registry)))[-1].status == "success"
    assert {method for method, _, _ in registry.log} == {"HEAD", "PUT"}


async def test_a_blob_of_another_repository_is_mounted(
    store: Store, registry: RegistryServer
) -> None:
    registry.blobs["you/yours", DIGEST] = WEIGHTS
    add(store, reference(registry), source=f"{registry.host}/you/yours:2b")
    assert (await lines(store, reference(registry)))[-1].status == "success"
    assert registry.blobs["me/mine", DIGEST] == WEIGHTS
    assert all(len(WEIGHTS) != int(h.get("Content-Length", 0)) for _, _, h in registry.log)
    assert registry.count("POST", f"mount={DIGEST}&from=you/yours") == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/uploads/", "PATCH", status=500, times=2),
        Fault("/uploads/", "PATCH", cut_after=0, times=2),
        Fault("/uploads/", "PUT", status=503, times=1),
        Fault("/manifests/", "PUT", status=502, times=2),
        Fault("/blobs/", "HEAD", status=500, times=2),
    ],
    ids=repr,
)
async def test_what_passes_is_survived(
    store: Store, registry: RegistryServer, fault: Fault
) -> None:
    async with FaultProxy(registry.host).serve() as proxy:
        proxy.faults = [fault]
        add(store, reference(proxy))
        assert (await lines(store, reference(proxy)))[-1].status == "success"
    assert registry.blobs["me/mine", DIGEST] == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("/uploads/", "POST", status=401, times=9), "^unauthorized: access denied; "),
        (Fault("/uploads/", "POST", status=403, body="no", times=9), "^403: no; your account"),
        (Fault("/manifests/", "PUT", status=400, body="bad", times=9), "^400: bad"),
        (Fault("/uploads/", "PATCH", status=500, times=99), "has a fault of its own"),
    ],
    ids=lambda value: repr(value) if isinstance(value, Fault) else "",
)
async def test_what_stays_is_said(
    store: Store, registry: RegistryServer, fault: Fault, text: str
) -> None:
    async with FaultProxy(registry.host).serve() as proxy:
        proxy.faults = [fault]
        add(store, reference(proxy))
        with pytest.raises(PushFailed, match=text):
            await lines(store, reference(proxy))
    assert registry.manifests == {}


async def test_a_part_goes_where_the_registry_redirects_it(
    store: Store, registry: RegistryServer
) -> None:
    """307 names a URL for the part, and Docker-Upload-Location where the next one goes."""
    registry.redirect_parts = True
    add(store, reference(registry))
    assert (await lines(store, reference(registry)))[-1].status == "success"
    assert registry.blobs["me/mine", DIGEST] == WEIGHTS
    assert registry.count("PUT", "/storage/") >= 3


async def test_a_model_that_is_not_there(store: Store) -> None:
    steps = push(store, RemoteReference.parse("nobody"), NETWORK)
    assert (await anext(steps)).status == "retrieving manifest"
    assert (await anext(steps)).status == "couldn't retrieve manifest"
    with pytest.raises(PushFailed, match=r"^open .*nobody.latest: no such file or directory$"):
        await anext(steps)


async def test_a_damaged_blob_is_not_sent(store: Store, registry: RegistryServer) -> None:
    add(store, reference(registry))
    store.blobs.path(DIGEST).write_bytes(b"short")
    with pytest.raises(PushFailed, match="is missing or incomplete"):
        await lines(store, reference(registry))
    assert registry.manifests == {}
