"""CONTRACT 6, fact by fact: the store, names, registries. Faults are tested in test_faults.py."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fault_proxy import Fault, FaultProxy
from front import Front
from ollama_folder import files, put_blob, put_model
from outrider.daemon.cli import table
from outrider.models import manifest as media
from outrider.models.errors import InvalidName, PullFailed
from outrider.models.manifest import Layer, Manifest, dump_manifest, parse_manifest
from outrider.models.model import Config, dump_config
from outrider.models.name import Name
from outrider.models.sources import push as push_module
from outrider.models.sources.download import DownloadPolicy
from outrider.models.sources.failures import HttpRefused, Unreachable, word_refusal
from outrider.models.sources.keys import default_key_path, find_key
from outrider.models.sources.progress import PullProgress
from outrider.models.sources.pull import SOURCES, pull
from outrider.models.sources.push import push
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.sources.retry import RetryPolicy
from outrider.models.sources.token import Challenge, check_realm, parse_challenge, token_url
from outrider.models.store import Store
from outrider.quant.gguf import Array, Header, Tensor, Value
from outrider.quant.repair import TOKENS, Repair, plan_repair
from registry_server import MANIFEST_TYPE, RegistryServer, digest_of

pytestmark = pytest.mark.unit

LIBRARY = "registry.ollama.ai/library"
WEIGHTS = bytes(range(250)) * 400
CONFIG = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
RETRY = RetryPolicy(tries=2, first_s=0.001, cap_s=0.002)
NETWORK = Network(policy=DownloadPolicy(part_bytes=30_000, retry=RETRY), find_key=lambda: None)
Tensors = Sequence[tuple[str, tuple[int, ...]]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def model_of(store: Store, layers: list[tuple[str, bytes]], **config: object) -> Name:
    """Puts the model `x` into the store, as Ollama lays it out."""
    put_model(store.root, f"{LIBRARY}/x/latest", layers, config={"model_format": "gguf", **config})
    return Name.parse("x")


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def source(host: str, model: str = "me/mine:1b") -> RemoteReference:
    return RemoteReference.parse(f"{host}/{model}", insecure=True)


async def pulled(
    store: Store, reference: RemoteReference, network: Network = NETWORK
) -> list[PullProgress]:
    async with aclosing(pull(store, reference, network)) as steps:
        return [progress async for progress in steps]


async def pushed(store: Store, reference: RemoteReference) -> list[PullProgress]:
    async with aclosing(push(store, reference, NETWORK)) as steps:
        return [progress async for progress in steps]


def test_6_1_manifests_and_blobs_lie_where_ollama_has_them(store: Store) -> None:
    config = store.blobs.add_bytes(CONFIG).layer(media.CONFIG_TYPE)
    store.write(Name.parse("h:5000/me/mine:1b"), Manifest(config, ()))
    hexadecimal = hashlib.sha256(CONFIG).hexdigest()
    assert files(store.root) == {"manifests/h:5000/me/mine/1b", f"blobs/sha256-{hexadecimal}"}


def test_6_1_modes(store: Store) -> None:
    config = store.blobs.add_bytes(CONFIG).layer(media.CONFIG_TYPE)
    store.write(Name.parse("x"), Manifest(config, ()))
    for path in (store.root, *store.root.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_6_1_a_manifest_is_stored_byte_for_byte(store: Store) -> None:
    digest = put_blob(store.root, CONFIG)
    config = {"size": len(CONFIG), "digest": digest, "mediaType": media.CONFIG_TYPE, "odd": 1}
    data = json.dumps({"layers": None, "config": config}, indent=3).encode()
    store.install(Name.parse("x"), data, lambda: None)
    assert (store.root / "manifests" / LIBRARY / "x/latest").read_bytes() == data
    store.copy(Name.parse("x"), Name.parse("y"))
    assert store.manifest_bytes(Name.parse("y")) == data


def test_6_1_the_key_pair(tmp_path: Path) -> None:
    assert default_key_path() == Path.home() / ".ollama/id_ed25519"
    path = tmp_path / ".ollama/id_ed25519"
    assert find_key(path)
    assert path.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert Path(f"{path}.pub").read_text().startswith("ssh-ed25519 AAAA")


def test_6_1_blobs_with_a_colon_are_renamed(store: Store) -> None:
    model_of(store, [("model", WEIGHTS)])
    path = store.blobs.path(digest_of(WEIGHTS))
    path.rename(path.with_name(digest_of(WEIGHTS)))
    store.prune()
    assert store.resolve("x").model_path == path
    assert not path.with_name(digest_of(WEIGHTS)).exists()


@pytest.mark.parametrize(("age_s", "stays"), [(3500, True), (3700, False)])
def test_6_1_unused_blobs_go_after_an_hour(store: Store, age_s: float, stays: bool) -> None:
    model_of(store, [("model", WEIGHTS)])
    unused = store.blobs.path(put_blob(store.root, b"unused"))
    for path in store.blobs.root.iterdir():
        age(path, age_s)
    store.prune()
    assert unused.exists() == stays
    assert store.resolve("x").model_path


def test_6_1_empty_folders_of_manifests_go(store: Store) -> None:
    model_of(store, [])
    (store.root / "manifests/h/n/m").mkdir(parents=True)
    for path in (store.root / "manifests").rglob("*"):
        age(path, 7200)
    store.prune()
    assert [path.name for path in (store.root / "manifests").iterdir()] == ["registry.ollama.ai"]


def test_6_1_noprune_keeps_every_blob(store: Store) -> None:
    model_of(store, [])
    unused = store.blobs.path(put_blob(store.root, b"unused"))
    age(unused, 7200)
    Store(store.root, prunes=False).prune()
    assert unused.exists()


def test_6_1_a_corrupt_manifest_stops_pruning_and_is_left_out_of_lists(store: Store) -> None:
    model_of(store, [])
    corrupt = put_model(store.root, f"{LIBRARY}/bad/latest", [])
    corrupt.write_bytes(corrupt.read_bytes()[:60])
    unused = store.blobs.path(put_blob(store.root, b"unused"))
    age(unused, 7200)
    store.prune()
    assert unused.exists()
    assert [model.name.short for model in store.list()] == ["x:latest"]


def test_6_1_partial_downloads_that_are_old_go(store: Store) -> None:
    model_of(store, [])
    parts = [store.blobs.root / f"sha256-{'a' * 64}-partial{end}" for end in ("", "-0")]
    for path in parts:
        path.write_bytes(b'{"N":0,"Offset":0,"Size":9,"Completed":0}')
    store.prune()
    assert all(path.exists() for path in parts), "another program may still write them"
    for path in parts:
        age(path, 90_000)
    store.prune()
    assert not any(path.exists() for path in parts)


def test_6_2_the_json_of_a_manifest() -> None:
    digest = "sha256:" + "1" * 64
    manifest = Manifest(
        Layer(media.CONFIG_TYPE, digest, 485), (Layer(media.MODEL, digest, 123, "base"),)
    )
    layer = {"mediaType": media.MODEL, "digest": digest, "size": 123, "from": "base"}
    assert json.loads(dump_manifest(manifest)) == {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": media.CONFIG_TYPE, "digest": digest, "size": 485},
        "layers": [layer],
    }
    named = json.dumps({"config": layer, "layers": [layer | {"name": "w"}]}).encode()
    assert parse_manifest(named).layers == manifest.layers


async def test_6_2_the_digest_is_that_of_the_bytes_of_the_manifest(front: Front) -> None:
    sha256 = hashlib.sha256(front.store.manifest_bytes(Name.parse("chat"))).hexdigest()
    answer = (await front.get("/api/tags"))[1]
    (row,) = [model for model in answer["models"] if model["name"] == "chat:latest"]
    assert row["digest"] == sha256
    (line,) = table.stored(answer, "chat:latest", datetime.now(UTC)).splitlines()[1:]
    assert line.split()[:2] == ["chat:latest", sha256[:12]]


async def test_6_2_from_is_the_parent_model(front: Front) -> None:
    path = put_model(front.store.root, f"{LIBRARY}/child/latest", [("model", b"GGUF")], source="p")
    (row,) = [m for m in (await front.get("/api/tags"))[1]["models"] if m["name"] == "child:latest"]
    assert row["details"]["parent_model"] == "p"
    path.unlink()


def test_6_2_every_layer_that_counts(store: Store) -> None:
    name = model_of(
        store,
        [
            *(("model", b"m"), ("projector", b"p1"), ("projector", b"p2"), ("adapter", b"a1")),
            *(("adapter", b"a2"), ("draft", b"d"), ("template", b"t"), ("system", b"s")),
            *(("params", b'{"stop":["x"]}'), ("messages", b'[{"role":"user","content":"u"}]')),
            *(("license", b"l1"), ("license", b"l2")),
        ],
    )
    model = store.resolve(name)
    one = [model.model_path, model.draft_path, *model.projector_paths, *model.adapter_paths]
    assert [path.read_bytes() for path in one if path] == [b"m", b"d", b"p1", b"p2", b"a1", b"a2"]
    assert (model.template, model.system, model.licenses) == ("t", "s", ("l1", "l2"))
    assert model.params == {"stop": ["x"]}
    assert model.messages == ({"role": "user", "content": "u"},)


def test_6_2_prompt_is_the_former_name_of_template(store: Store) -> None:
    assert store.resolve(model_of(store, [("prompt", b"old")])).template == "old"


@pytest.mark.parametrize("kind", ["embed", "tensor", "json", "unheard.of"])
def test_6_2_other_layers_are_ignored_and_kept(store: Store, kind: str) -> None:
    model = store.resolve(model_of(store, [("model", WEIGHTS), (kind, b"other")]))
    assert model.model_path
    age(store.blobs.path(digest_of(b"other")), 7200)
    store.prune()
    assert store.blobs.has(digest_of(b"other"))


def test_6_2_the_fields_of_a_config(store: Store) -> None:
    stated: dict[str, object] = {
        "model_family": "llama", "model_families": ["llama", "clip"], "model_type": "8.0B",
        "file_type": "Q4_K_M", "renderer": "r", "parser": "p", "remote_host": "h",
        "remote_model": "m", "capabilities": ["vision"], "context_length": 8, "base_name": "b",
        "embedding_length": 4, "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"},
        "draft": {"model_format": "safetensors", "tensor_prefix": "draft."},
    }  # fmt: skip
    config = store.resolve(model_of(store, [], **stated)).config
    assert (config.model_format, config.model_family, config.model_type) == (
        "gguf",
        "llama",
        "8.0B",
    )
    assert (config.model_families, config.file_type) == (("llama", "clip"), "Q4_K_M")
    assert (config.renderer, config.parser, config.base_name) == ("r", "p", "b")
    assert (config.remote_host, config.remote_model) == ("h", "m")
    assert (config.capabilities, config.context_length, config.embedding_length) == (
        ("vision",), 8, 4)  # fmt: skip


def test_6_2_the_platform_of_a_config_is_always_the_same() -> None:
    stated = json.loads(dump_config(Config(model_format="gguf"), ()))
    assert (stated["architecture"], stated["os"]) == ("amd64", "linux")
    assert "renderer" not in stated


async def test_6_2_requires_is_not_enforced(front: Front) -> None:
    digest = front.store.manifest(Name.parse("chat")).of(media.MODEL)[0].digest
    body = {"model": "future", "files": {"a": digest}, "requires": "99.0.0", "stream": False}
    assert await front.post("/api/create", body) == (200, {"status": "success"})
    assert (await front.post("/api/show", {"model": "future"}))[1]["requires"] == "99.0.0"
    assert (await front.post("/api/generate", {"model": "future"}))[0] == 200


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("m", ("registry.ollama.ai", "library", "m", "latest")),
        ("n/m:t", ("registry.ollama.ai", "n", "m", "t")),
        ("h.x:80/n/m", ("h.x:80", "n", "m", "latest")),
        ("https://h/n/m:t", ("h", "n", "m", "t")),
        ("_h/_n-/_m.-:_t.-", ("_h", "_n-", "_m.-", "_t.-")),
    ],
)
def test_6_3_parts_and_defaults(text: str, parts: tuple[str, ...]) -> None:
    assert Name.parse(text).parts == parts


@pytest.mark.parametrize(
    "text",
    ["a//b", "a:", "/a", "a/b/c/d", f"m@sha256:{'0' * 64}", "n.x/m", "-m", ".m", "m:-t", "ftp://m"],
)
def test_6_3_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^invalid model name$"):
        Name.parse(text)


@pytest.mark.parametrize("text", ["h/{}/m", "h/n/{}", "m:{}"])
def test_6_3_parts_have_80_characters_at_most(text: str) -> None:
    assert Name.parse(text.format("x" * 80))
    with pytest.raises(InvalidName):
        Name.parse(text.format("x" * 81))


@pytest.mark.parametrize(
    ("text", "short"),
    [(f"{LIBRARY}/m", "m:latest"), ("registry.ollama.ai/n/m:t", "n/m:t"),
     ("h/library/m", "h/library/m:latest")],
)  # fmt: skip
def test_6_3_the_short_form(text: str, short: str) -> None:
    assert Name.parse(text).short == short


def test_6_3_case_is_that_of_the_store(store: Store) -> None:
    put_model(store.root, f"{LIBRARY}/foo/Tag", [])
    assert store.resolve("FOO:tAG").name.short == "foo:Tag"
    store.copy(Name.parse("foo:tag"), Name.parse("Foo:TAG"))
    assert [model.name.short for model in store.list()] == ["foo:Tag"]


async def test_6_3_plain_http_needs_insecure(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        for scheme in ("", "http://"):
            with pytest.raises(PullFailed):
                await pulled(store, RemoteReference.parse(f"{scheme}{registry.host}/me/mine:1b"))
        assert registry.log == []
        assert (await pulled(store, source(registry.host)))[-1].status == "success"


async def test_6_4_1_the_request_for_a_manifest(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [])
        await pulled(store, source(registry.host))
        method, path, headers = registry.log[0]
    assert (method, path) == ("GET", "/v2/me/mine/manifests/1b")
    assert headers["Accept"] == MANIFEST_TYPE
    assert re.match(r"ollama/\d+\.\d+\.\d+ \(\S+ \S+\) ", headers["User-Agent"])


def test_6_4_2_the_request_for_a_token() -> None:
    header = 'Bearer realm="https://r/token",service="s",scope="repository:a/b:pull"'
    challenge = parse_challenge(header)
    assert challenge
    assert token_url(challenge, now_s=9, nonce=b"\xff" * 16) == (
        "https://r/token?service=s&scope=repository:a/b:pull&ts=9&nonce=" + "_" * 21 + "w"
    )


async def test_6_4_2_the_token_is_asked_for_once_and_sent(store: Store, tmp_path: Path) -> None:
    key = find_key(tmp_path / "key")
    assert key
    network = replace(NETWORK, find_key=lambda: key)
    async with RegistryServer(wants_token=True).serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        await pulled(store, source(registry.host), network)
        (asked,) = registry.token_requests
        sent = [headers.get("Authorization") for _, _, headers in registry.log]
        assert sent[0] is None
        assert set(sent[1:]) == {f"Bearer {registry.token}"}
        public, _, signature = asked.headers["Authorization"].partition(":")
        empty = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
        signed = f"GET,http://{registry.host}{asked.raw_path},{empty}".encode()
    public_key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
    public_key.verify(base64.b64decode(signature), signed)  # type: ignore[union-attr,call-arg]


def test_6_4_2_a_realm_on_another_host() -> None:
    with pytest.raises(Unreachable, match='realm host "a" does not match original host "b"'):
        check_realm(Challenge("https://a/token"), "b", insecure=False)


async def test_6_4_2_a_second_401(store: Store) -> None:
    async with RegistryServer(wants_token=True, given_token="wrong").serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [])
        with pytest.raises(PullFailed, match="unauthorized: access denied"):
            await pulled(store, source(registry.host))


async def test_6_4_3_an_unknown_model(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        with pytest.raises(PullFailed, match=r"^pull model manifest: file does not exist$"):
            await pulled(store, source(registry.host))


def test_6_4_3_other_statuses() -> None:
    assert word_refusal(HttpRefused(418, "h", "a teapot")) == "418: a teapot"


async def test_6_4_4_a_blob_that_is_there_is_one_line(store: Store) -> None:
    put_blob(store.root, WEIGHTS)
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        lines = await pulled(store, source(registry.host))
        assert registry.count("GET", digest_of(WEIGHTS)) == 0
    size, digest = len(WEIGHTS), digest_of(WEIGHTS)
    told = [line for line in lines if line.digest == digest]
    assert told == [PullProgress(f"pulling {digest[7:19]}", digest, size, size)]


async def test_6_4_5_a_redirect_to_another_host_gets_no_token(store: Store) -> None:
    async with RegistryServer(wants_token=True).serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        async with RegistryServer(blobs=registry.blobs).serve() as storage:
            registry.redirect_blobs = f"http://{storage.host}"
            await pulled(store, source(registry.host))
    sent = [headers for _, path, headers in storage.log if digest_of(WEIGHTS) in path]
    assert sent
    assert not any("Authorization" in headers for headers in sent)
    assert store.blobs.path(digest_of(WEIGHTS)).read_bytes() == WEIGHTS


async def test_6_4_5_a_registry_that_sends_the_content_itself(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        assert (await pulled(store, source(registry.host)))[-1].status == "success"
        ranges = {h.get("Range") for _, path, h in registry.log if digest_of(WEIGHTS) in path}
    assert ranges == {
        "bytes=0-29999",
        "bytes=30000-59999",
        "bytes=60000-89999",
        "bytes=90000-99999",
    }


def test_6_4_6_tries_and_stalls() -> None:
    policy = DownloadPolicy()
    assert policy.connections <= 16
    assert (policy.retry.tries, policy.stall_s) == (6, 30)
    retry, failure = replace(policy.retry, jitter=lambda: 1.0), Unreachable("h", "reset")
    assert [retry.delay_s(n, failure) for n in (1, 2, 3, 6)] == [1, 2, 4, None]


async def test_6_4_7_two_clients_share_a_download(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        told = await asyncio.gather(*(pulled(store, source(registry.host)) for _ in range(2)))
        assert registry.count("GET", digest_of(WEIGHTS)) == 4, "once for each part"
    assert [lines[-1].status for lines in told] == ["success", "success"]


async def test_6_4_7_a_download_ends_with_its_last_client_and_is_resumed(store: Store) -> None:
    async with RegistryServer().serve() as registry, FaultProxy(registry.host).serve() as proxy:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        proxy.faults = [Fault(digest_of(WEIGHTS), stall_after=1000)]  # one of the four parts
        clients = [asyncio.create_task(pulled(store, source(proxy.host))) for _ in range(2)]
        await proxy.stalled.wait()
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)
        assert all(client.cancelled() for client in clients)
        assert (await pulled(store, source(proxy.host)))[-1].status == "success"
    assert store.blobs.path(digest_of(WEIGHTS)).read_bytes() == WEIGHTS


async def test_6_4_8_a_wrong_digest(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        wrong = bytes(len(WEIGHTS))
        registry.blobs["me/mine", digest_of(WEIGHTS)] = wrong
        with pytest.raises(PullFailed) as caught:
            await pulled(store, source(registry.host))
    want, got = digest_of(WEIGHTS), digest_of(wrong)
    text = f"digest mismatch, file must be downloaded again: want {want}, got {got}"
    assert str(caught.value) == text
    assert not [path for path in files(store.root) if want[7:] in path]


@pytest.mark.parametrize("prunes", [True, False])
async def test_6_4_9_the_layers_of_the_replaced_manifest(tmp_path: Path, prunes: bool) -> None:
    store = Store(tmp_path / "models", prunes=prunes)
    async with RegistryServer().serve() as registry:
        registry.add("me/mine", "1b", CONFIG, [("model", WEIGHTS)])
        await pulled(store, source(registry.host))
        data = registry.add("me/mine", "1b", CONFIG, [("model", b"new")])
        await pulled(store, source(registry.host))
    assert store.manifest_bytes(Name.parse(f"{registry.host}/me/mine:1b")) == data
    assert store.blobs.has(digest_of(WEIGHTS)) is not prunes


def test_6_4_hugging_face() -> None:
    name = Name.parse("hf.co/user/Some.Repo-GGUF:Q4_K_M")
    assert name.parts == ("hf.co", "user", "Some.Repo-GGUF", "Q4_K_M")
    assert {"hf.co", "huggingface.co"} == set(SOURCES)


@pytest.mark.parametrize("model", ["x:cloud", "x:20b-cloud"])
async def test_6_4_models_of_a_cloud_have_nothing_to_pull(store: Store, model: str) -> None:
    with pytest.raises(PullFailed, match="runs in a cloud"):
        await pulled(store, RemoteReference.parse(model))


def sendable(store: Store, host: str, came_from: str | None = None) -> bytes:
    """Stores a model of that registry; returns its manifest."""
    config = store.blobs.add_bytes(CONFIG).layer(media.CONFIG_TYPE)
    weights = store.blobs.add_bytes(WEIGHTS).layer(media.MODEL, came_from)
    name = source(host).name
    store.write(name, Manifest(config, (weights,)))
    return store.manifest_bytes(name)


async def test_6_5_the_requests_of_a_push(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "_PART_BYTES", 60_000)
    async with RegistryServer().serve() as registry:
        data = sendable(store, registry.host)
        registry.blobs["me/mine", digest_of(CONFIG)] = CONFIG
        await pushed(store, source(registry.host))
    methods = [method for method, _, _ in registry.log]
    assert sorted(methods) == ["HEAD", "HEAD", "PATCH", "PATCH", "POST", "PUT", "PUT"]
    assert methods[-1] == "PUT"
    assert registry.manifests["me/mine", "1b"] == data
    parts = [headers for method, _, headers in registry.log if method == "PATCH"]
    assert [part["Content-Range"] for part in parts] == ["0-59999", "60000-99999"]
    assert {part["X-Redirect-Uploads"] for part in parts} == {"1"}
    hashes = b"".join(hashlib.md5(part).digest() for part in (WEIGHTS[:60_000], WEIGHTS[60_000:]))
    (last,) = [path for m, path, _ in registry.log if m == "PUT" and "/uploads/" in path]
    assert last.endswith(f"digest={digest_of(WEIGHTS)}&etag={hashlib.md5(hashes).hexdigest()}-2")


async def test_6_5_a_blob_that_the_registry_mounts(store: Store) -> None:
    async with RegistryServer().serve() as registry:
        sendable(store, registry.host, f"{registry.host}/you/yours")
        registry.blobs["you/yours", digest_of(WEIGHTS)] = WEIGHTS
        await pushed(store, source(registry.host))
        mount = f"/blobs/uploads/?mount={digest_of(WEIGHTS)}&from=you/yours"
        assert registry.count("POST", mount) == 1
    assert registry.blobs["me/mine", digest_of(WEIGHTS)] == WEIGHTS


async def test_6_5_a_part_that_is_redirected(store: Store) -> None:
    async with RegistryServer(redirect_parts=True).serve() as registry:
        sendable(store, registry.host)
        await pushed(store, source(registry.host))
        assert registry.count("PUT", "/storage/") == 2
    assert registry.blobs["me/mine", digest_of(WEIGHTS)] == WEIGHTS


async def test_6_5_tokens_are_as_for_a_pull(store: Store) -> None:
    async with RegistryServer(wants_token=True).serve() as registry:
        sendable(store, registry.host)
        await pushed(store, source(registry.host))
        (asked,) = registry.token_requests
    assert asked.query["service"] == "tests"
    sent = [headers.get("Authorization") for _, _, headers in registry.log]
    assert set(sent[1:]) == {f"Bearer {registry.token}"}


def repaired(
    architecture: str, values: Mapping[str, Value] | None = None, tensors: Tensors = ()
) -> Repair | None:
    """What a file of that header needs."""
    keys = {"general.architecture": architecture, **(values or {})}
    found = [Tensor(name, "F32", shape, 0, 4 * prod(shape)) for name, shape in tensors]
    return plan_repair(Header(Path("x.gguf"), 3, 0, keys, tuple(found)))


PRE = "tokenizer.ggml.pre"
VISION: Tensors = [("v.blk.0.attn_q.weight", (4, 4))]
LLAMA3: Mapping[str, Value] = {
    "tokenizer.ggml.model": "gpt2",
    TOKENS: ["<|start_header_id|>"] * 128_256,
}
EDITS: list[tuple[str, Mapping[str, Value], Tensors, Mapping[str, Value], set[str]]] = [
    ("gemma4", {"tokenizer.ggml.model": "llama"}, [("blk.0.ffn_gate_inp.per_expert_scale", (2,))],
     {"tokenizer.ggml.model": "gemma4"}, {"blk.0.ffn_down_exps.scale"}),
    ("gemma3", {"gemma3.mm.tokens_per_image": 256}, [*VISION, ("token_embd.weight", (4, 8))],
     {"gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.rope.freq_base": 1e6,
      "gemma3.rope.freq_base_swa": 1e4}, {"token_embd.weight"}),
    ("gemma3", {}, [("dense.0.weight", (4, 8)), ("dense.1.weight", (8, 4)), ("norm.weight", (4,))],
     {"general.architecture": "gemma-embedding", "gemma-embedding.dense_2_feat_out": 8},
     {"dense_2.weight", "dense_3.weight", "output_norm.weight"}),
    ("gptoss", {}, [("blk.0.attn_out.weight", (4, 4)), ("blk.0.attn_sinks", (4,)),
                    ("blk.0.ffn_norm.weight", (4,)), ("blk.0.ffn_down_exps.weight", (6, 4, 2))],
     {"general.architecture": "gpt-oss", "gpt-oss.rope.scaling.type": "yarn", PRE: "gpt-4o",
      "gpt-oss.expert_feed_forward_length": 6},
     {"blk.0.attn_output.weight", "blk.0.attn_sinks.weight", "blk.0.post_attention_norm.weight",
      "blk.0.ffn_down_exps.weight"}),
    *((arch, {f"{arch}.attention.head_count_kv": [0, 2], f"{arch}.rope.dimension_sections": [1, 2]},
       [*VISION, ("mtp.fc.weight", (4, 4)), ("blk.0.ssm_dt", (4,))],
       {f"{arch}.attention.head_count_kv": 2, f"{arch}.rope.dimension_sections": [1, 2, 0, 0]},
       {"blk.0.ssm_dt.bias"}) for arch in ("qwen35", "qwen35moe")),
    ("qwen3next", {"qwen3next.attention.head_count_kv": [0, 2]}, [("blk.0.ssm_dt", (4,))],
     {"qwen3next.attention.head_count_kv": 2}, {"blk.0.ssm_dt.bias"}),
    ("qwen25vl", {}, VISION, {"general.architecture": "qwen2vl"}, set()),
    ("deepseekocr", {}, VISION, {"general.architecture": "deepseek2-ocr"}, set()),
    *((arch, {}, VISION, {}, set()) for arch in ("qwen3vl", "qwen3vlmoe", "mistral3", "llama4")),
    ("lfm2", {}, [("output_norm.weight", (4,)), ("blk.0.ffn_gate.weight", (4, 9))],
     {PRE: "lfm2", "lfm2.feed_forward_length": 9},
     {"token_embd_norm.weight", "blk.0.ffn_gate.weight"}),
    ("llama", LLAMA3, (), {PRE: "llama-bpe", "tokenizer.ggml.eos_token_id": 128_009,
                           "tokenizer.ggml.eot_token_id": 128_009}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "values", "tensors", "stated", "names"), EDITS)
def test_6_6_files_of_ollamas_own_engine(
    architecture: str,
    values: Mapping[str, Value],
    tensors: Tensors,
    stated: Mapping[str, Value],
    names: set[str],
) -> None:
    repair = repaired(architecture, values, tensors)
    assert repair
    assert stated.items() <= repair.values.items()
    assert {tensor.name for tensor in repair.tensors or ()} == names


def test_6_6_gemma3n_is_cut_to_the_vocabulary_of_its_layers() -> None:
    tensors = [("token_embd.weight", (4, 9)), ("per_layer_token_embd.weight", (2, 8))]
    repair = repaired("gemma3n", {TOKENS: Array("string", 9)}, tensors)
    assert repair
    assert repair.lengths[TOKENS] == 8
    assert {t.name: t.shape for t in repair.tensors or ()}["token_embd.weight"] == (4, 8)


def test_6_6_gemma4_has_gate_and_up_of_its_experts_in_one_tensor() -> None:
    tensors = [(f"blk.0.ffn_{side}_exps.weight", (4, 2, 3)) for side in ("gate", "up")]
    joined = repaired("gemma4", {}, [*tensors, *VISION])
    assert joined
    shapes = {t.name: t.shape for t in joined.tensors or ()}
    assert shapes == {"blk.0.ffn_gate_up_exps.weight": (4, 4, 3)}
    scaled = repaired("gemma4", {}, [*tensors, ("blk.0.ffn_up_exps.scale", (3,)), *VISION])
    assert scaled
    assert "blk.0.ffn_gate_exps.weight" in {t.name for t in scaled.tensors or ()}


def test_6_6_gemma3_of_a_long_context() -> None:
    values: Mapping[str, Value] = {
        "gemma3.context_length": 131_072,
        "gemma3.rope.global.freq_base": 2e6,
        "gemma3.rope.local.freq_base": 2e4,
        TOKENS: Array("string", 9),
    }
    repair = repaired("gemma3", values, [("token_embd.weight", (4, 8))])
    assert repair
    assert repair.keys == {
        "gemma3.rope.global.freq_base": "gemma3.rope.freq_base",
        "gemma3.rope.local.freq_base": "gemma3.rope.freq_base_swa",
    }
    assert repair.values["gemma3.rope.scaling.type"] == "linear"
    assert repair.values["gemma3.rope.scaling.factor"] == 8
    assert repair.lengths[TOKENS] == 8


def test_6_6_a_file_for_llama_cpp_stays_as_it_is() -> None:
    for architecture in ("llama", "qwen3", "gpt-oss"):
        assert repaired(architecture, {}, [("token_embd.weight", (4, 8))]) is None
