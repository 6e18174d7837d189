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


async def test_a_blob_that_is_removed_meanwhile_is_fetched_again(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    await lines(store, reference(registry), network)
    registry.add("user/tiny", "latest", CONFIG, [*LAYERS, ("license", b"a second one")])
    removed = False
    async with aclosing(pull(store, reference(registry), network)) as steps:
        async for progress in steps:
            if progress.status == "writing manifest" and not removed:
                store.blobs.path(digest_of(WEIGHTS)).unlink()
                removed = True
    assert progress.status == "success"
    assert registry.count("GET", digest_of(WEIGHTS)) == 10  # 5 parts, twice
    assert store.resolve(Name.parse(f"{registry.host}/user/tiny")).licenses[-1] == "a second one"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"remote_host": "https://cloud.example:443", "remote_model": "big:1t"},
            "has no weights: it runs as 'big:1t' on https://cloud.example:443, and remote models "
            "are not supported",
        ),
        ({"model_format": "safetensors"}, "^this model requires MLX support, but the MLX runtime"),
        ({"model_format": 5}, "the config of .* is not readable"),
    ],
)
async def test_a_model_that_does_not_run_here(
    store: Store, registry: RegistryServer, network: Network, config: object, text: str
) -> None:
    registry.add("user/far", "latest", json.dumps(config).encode(), [("model", WEIGHTS)])
    with pytest.raises(PullFailed, match=text):
        await lines(store, reference(registry, "user/far"), network)
    assert registry.count("GET", digest_of(WEIGHTS)) == 0
    assert files(store.root) == set()


async def test_a_port_that_is_no_number(store: Store, network: Network) -> None:
    source = RemoteReference.parse("127.0.0.1:5m9/a/b:c", insecure=True)
    with pytest.raises(PullFailed, match="its port is no number"):
        await lines(store, source, network)


@pytest.mark.parametrize("text", ["big:cloud", "big:20b-cloud", "hf.co/a/b:cloud"])
async def test_a_cloud_model_is_refused_without_a_request(
    store: Store, network: Network, text: str
) -> None:
    with pytest.raises(PullFailed, match="runs in a cloud, and remote models are not supported"):
        await lines(store, RemoteReference.parse(text), network)


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (b"no json", "^pull model manifest: not a model manifest"),
        (b'{"schemaVersion":2,"manifests":[]}', "^pull model manifest: not a model manifest"),
        (b" " * (5 << 20), "^pull model manifest: 200: more than 4194304 bytes"),
    ],
)
async def test_what_is_no_manifest(
    store: Store, registry: RegistryServer, network: Network, manifest: bytes, text: str
) -> None:
    registry.manifests["user/tiny", "latest"] = manifest
    with pytest.raises(PullFailed, match=text):
        await lines(store, reference(registry), network)


async def test_a_manifest_that_names_another_size(
    store: Store, registry: RegistryServer, network: Network
) -> None:
    wire = json.loads(registry.manifests["user/tiny", "latest"])
    wire["layers"][0]["size"] += 1
    registry.manifests["user/tiny", "latest"] = json.dumps(wire).encode()
    with pytest.raises(PullFailed, match="has a file of 300000 bytes instead of 300001"):
        await lines(store, reference(registry), network)
    assert store.list() == []
