"""Is a model pulled from a registry complete, byte for byte, and is a failure clear?"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from ollama_folder import files
from outrider.models.errors import PullFailed
from outrider.models.name import Name
from outrider.models.sources.download import DownloadPolicy
from outrider.models.sources.keys import find_key
from outrider.models.sources.progress import PullProgress
from outrider.models.sources.pull import pull
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.sources.retry import RetryPolicy
from outrider.models.store import Store
from registry_server import RegistryServer, digest_of

pytestmark = pytest.mark.unit

CONFIG = json.dumps({"model_format": "gguf", "model_family": "llama", "odd": 1}).encode()
WEIGHTS = random.Random(1).randbytes(300_000)
DRAFT = random.Random(2).randbytes(70_000)
LAYERS = [
    ("model", WEIGHTS),
    ("draft", DRAFT),
    ("projector", b"GGUF projector"),
    ("adapter", b"GGUF adapter"),
    ("template", b"{{ .Prompt }}"),
    ("params", b'{"stop":["x"]}'),
    ("license", b"free"),
    ("vendor.unknown", b"what is this?"),
]
POLICY = DownloadPolicy(
    part_bytes=64_000, connections=3, stall_s=5.0, retry=RetryPolicy(first_s=0.001, cap_s=0.002)
)


@pytest.fixture
async def registry() -> AsyncIterator[RegistryServer]:
    async with RegistryServer().serve() as server:
        server.add("user/tiny", "latest", CONFIG, LAYERS)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(policy=POLICY, find_key=lambda: find_key(tmp_path / "key" / "id_ed25519"))


def reference(
    registry: RegistryServer, model: str = "user/tiny", *, insecure: bool = True
) -> RemoteReference:
    return RemoteReference.parse(f"{registry.host}/{model}", insecure=insecure)


async def lines(store: Store, source: RemoteReference, network: Network) -> list[PullProgress]:
    async with aclosing(pull(store, source, network)) as steps:
        return [progress async for progress in steps]


async def test_every_layer_is_stored_and_the_manifest_byte_for_byte(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    told = await lines(store, reference(registry), network)
    model = store.resolve(Name.parse(f"{registry.host}/user/tiny"))
    path = store.root / "manifests" / registry.host / "user/tiny/latest"
    assert path.read_bytes() == registry.manifests["user/tiny", "latest"]
    assert model.model_path == store.blobs.path(digest_of(WEIGHTS))
    assert model.model_path.read_bytes() == WEIGHTS
    assert model.draft_path == store.blobs.path(digest_of(DRAFT))
    assert model.draft_path.read_bytes() == DRAFT
    assert [p.read_bytes() for p in model.projector_paths] == [b"GGUF projector"]
    assert [p.read_bytes() for p in model.adapter_paths] == [b"GGUF adapter"]
    assert (model.template, model.licenses) == ("{{ .Prompt }}", ("free",))
    contents = {digest_of(data).replace(":", "-") for data in (CONFIG, *(d for _, d in LAYERS))}
    assert {p.name for p in store.blobs.root.iterdir()} == contents
    statuses = list(dict.fromkeys(line.status for line in told))
    expected = [f"pulling {digest_of(data)[7:19]}" for data in (*(d for _, d in LAYERS), CONFIG)]
    assert statuses == [
        "pulling manifest",
        *expected,
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    last = [line for line in told if line.digest == digest_of(WEIGHTS)][-1]
    assert (last.total, last.completed) == (len(WEIGHTS), len(WEIGHTS))


async def test_the_second_pull_downloads_no_layer(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    await lines(store, reference(registry), network)
    registry.log.clear()
    told = await lines(store, reference(registry), network)
    assert told[-1].status == "success"
    assert registry.count("GET", digest_of(WEIGHTS)) == 0


async def test_a_replaced_model_leaves_no_layer(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    await lines(store, reference(registry), network)
    registry.add("user/tiny", "latest", CONFIG, [("model", b"new weights")])
    told = await lines(store, reference(registry), network)
    assert [line.status for line in told][-2:] == ["removing unused layers", "success"]
    assert len(files(store.root)) == 3


async def test_an_unknown_model(store: Store, registry: RegistryServer, network: Network) -> None:
    with pytest.raises(PullFailed, match=r"^pull model manifest: file does not exist$"):
        await lines(store, reference(registry, "user/none"), network)
    assert files(store.root) == set()
