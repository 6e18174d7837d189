"""Is a model pulled from the Hugging Face hub whole, with its drafter, and is a failure clear?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from hub_server import COMMIT, HubServer, sha256
from ollama_folder import files
from outrider.models import manifest as media
from outrider.models.errors import PullFailed
from outrider.models.name import Name
from outrider.models.sources.download import DownloadPolicy
from outrider.models.sources.hf_header import FIRST_BYTES
from outrider.models.sources.progress import PullProgress
from outrider.models.sources.pull import pull
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.sources.retry import RetryPolicy
from outrider.models.store import Store
from outrider.quant.gguf import read_header
from tiny import constant, named, tokenizer, vocabulary, write_gguf, write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_split import split_gguf

pytestmark = pytest.mark.unit

REPOSITORY = "user/tiny-it-GGUF"
TEXTS = {
    "README.md": b"---\nlicense: mit\n---\n# Tiny\n",
    "template": b"{{ .Prompt }}",
    "system": b"Be tiny.",
    "params": b'{"stop": ["<end>"], "temperature": 0.5}',
}
POLICY = DownloadPolicy(
    part_bytes=64_000, connections=3, stall_s=5.0, retry=RetryPolicy(2, first_s=0.001, cap_s=0.002)
)
Weights = Mapping[str, bytes]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Tiny files by what they are."""
    folder = tmp_path_factory.mktemp("hub")
    gemma = write_gemma4(folder / "gemma.gguf")
    drafter = write_gemma4_assistant(folder / "drafter.gguf", gemma, layers=1)
    llama = write_llama(folder / "llama.gguf")
    keys = named("eagle3", {"target_hidden_size": 128}) | tokenizer(*vocabulary())
    wide = write_gguf(folder / "wide.gguf", keys, [("fc.weight", constant(32))])
    found = {path.stem: path.read_bytes() for path in (gemma, drafter, llama, wide)}
    for number, path in enumerate(split_gguf(llama, 3), start=1):
        found[f"part {number}"] = path.read_bytes()
    return found


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubServer]:
    async with HubServer().serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


async def lines(store: Store, name: str = f"hf.co/{REPOSITORY}") -> list[PullProgress]:
    network = Network(policy=POLICY, find_key=lambda: None)
    async with aclosing(pull(store, RemoteReference.parse(name), network)) as steps:
        return [progress async for progress in steps]


def statuses(told: list[PullProgress]) -> list[str]:
    return list(dict.fromkeys(line.status for line in told))


def assert_nothing_kept(store: Store) -> None:
    assert files(store.root) == set()


async def test_a_model_with_its_drafter_and_texts(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    model, drafter = weights["gemma"], weights["drafter"]
    hub.add(
        REPOSITORY,
        {
            **TEXTS,
            "tiny-it-Q4_K_M.gguf": model,
            "tiny-it-F16.gguf": b"GGUF not this one",
            "mtp-tiny-it-Q8_0.gguf": drafter,
        },
    )
    told = await lines(store)
    found = store.resolve(Name.parse(f"hf.co/{REPOSITORY}"))
    assert found.model_path is not None
    assert found.draft_path is not None
    assert (found.model_path.read_bytes(), found.draft_path.read_bytes()) == (model, drafter)
    assert (found.template, found.system) == ("{{ .Prompt }}", "Be tiny.")
    assert found.params == {"stop": ["<end>"], "temperature": 0.5}
    assert (found.config.model_family, found.config.file_type) == ("gemma4", "F32")
    assert found.name.short == f"hf.co/{REPOSITORY}:latest"
    assert (store.root / "manifests/hf.co" / REPOSITORY / "latest").is_file()
    assert len(files(store.root)) == 1 + 6  # manifest; config, two files, three texts
    assert statuses(told) == [
        "pulling manifest",
        "selected tiny-it-Q4_K_M.gguf",
        "paired with the drafter mtp-tiny-it-Q8_0.gguf: gemma4-assistant, made for a hidden width "
        "of 64, with the same vocabulary",
        f"pulling {sha256(model)[:12]}",
        f"pulling {sha256(drafter)[:12]}",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    last = [line for line in told if line.digest == f"sha256:{sha256(model)}"][-1]
    assert (last.total, last.completed) == (len(model), len(model))


async def test_the_second_pull_downloads_nothing(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    hub.add(REPOSITORY, {"a-Q8_0.gguf": weights["gemma"], "a-assistant.gguf": weights["drafter"]})
    await lines(store)
    hub.storage_log.clear()
    told = await lines(store, f"huggingface.co/{REPOSITORY}:q8_0")
    assert any(line.status.startswith("paired with") for line in told)
    assert hub.storage_log == []
    assert [m.name.short for m in store.list()] == [
        f"huggingface.co/{REPOSITORY}:q8_0",
        f"hf.co/{REPOSITORY}:latest",
    ]


async def test_a_drafter_for_another_width_is_not_downloaded(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    other = weights["wide"]
    hub.add(REPOSITORY, {"a-Q4_0.gguf": weights["gemma"], "a-eagle3.gguf": other})
    told = await lines(store)
    misfit = "it drafts for a hidden width of 128, and the model's is 64"
    assert statuses(told)[2] == f"not paired with a-eagle3.gguf: {misfit}"
    assert store.resolve(Name.parse(f"hf.co/{REPOSITORY}")).draft_path is None
    assert not store.blobs.has(f"sha256:{sha256(other)}")


@pytest.mark.parametrize(
    ("card", "readme"),
    [
        ({"drafter": "friend/heads"}, b""),
        ({}, b"It has [a drafter](https://huggingface.co/user/tiny-it-assistant-GGUF)."),
    ],
)
async def test_a_drafter_that_the_model_card_names(
    store: Store,
    hub: HubServer,
    weights: Weights,
    card: dict[str, object],
    readme: bytes,
) -> None:
    hub.add(REPOSITORY, {"a-Q4_0.gguf": weights["gemma"], "README.md": readme}, card=card)
    for name in ("friend/heads", "user/tiny-it-assistant-GGUF"):
        hub.add(name, {"model-Q8_0.gguf": weights["drafter"]})
    told = await lines(store)
    expected = card.get("drafter", "user/tiny-it-assistant-GGUF")
    assert f"drafter model-Q8_0.gguf of {expected}: gemma4-assistant" in statuses(told)[2]
    draft_path = store.resolve(Name.parse(f"hf.co/{REPOSITORY}")).draft_path
    assert draft_path is not None
    assert draft_path.read_bytes() == weights["drafter"]


async def test_a_card_that_names_what_is_gone(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    hub.add(REPOSITORY, {"a-Q4_0.gguf": weights["gemma"]}, card={"drafter": "user/gone"})
    assert (await lines(store))[-1].status == "success"


async def test_parts_are_joined_once(store: Store, hub: HubServer, weights: Weights) -> None:
    parts = {f"Q4_K_M/a-Q4_K_M-0000{i}-of-00003.gguf": weights[f"part {i}"] for i in (1, 2, 3)}
    hub.add(REPOSITORY, parts)
    told = await lines(store)
    assert "selected Q4_K_M/a-Q4_K_M-00001-of-00003.gguf and 2 more parts" in statuses(told)
    assert "joining 3 parts" in statuses(told)
    model = store.resolve(Name.parse(f"hf.co/{REPOSITORY}"))
    assert model.model_path is not None
    joined, whole = read_header(model.model_path), write_llama(store.root / "llama.gguf")
    assert dict(joined.values) == dict(read_header(whole).values)
    assert {t.name for t in joined.tensors} == {t.name for t in read_header(whole).tensors}
    assert model.config.model_type
    whole.unlink()
    assert len(files(store.root)) == 3  # manifest, config, weights: no part is left

    hub.storage_log.clear()
    await lines(store, f"hf.co/{REPOSITORY}:q4_k_m")
    asked = [h["Range"] for _, _, h in hub.storage_log]
    assert len(asked) == 1  # the header of the first part, and no part
    assert len(store.list()) == 2


async def test_two_pulls_of_a_split_model_at_once(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    hub.add(REPOSITORY, {f"a-0000{i}-of-00003.gguf": weights[f"part {i}"] for i in (1, 2, 3)})
    network = Network(policy=POLICY)

    async def follow() -> str:
        steps = pull(store, RemoteReference.parse(f"hf.co/{REPOSITORY}"), network)
        return [line.status async for line in steps][-1]

    assert await asyncio.gather(follow(), follow()) == ["success", "success"]
    assert len(files(store.root)) == 3


async def test_a_join_that_is_stopped_leaves_the_parts_alone(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    """They are what the next pull goes on from."""
    hub.add(REPOSITORY, {f"a-0000{i}-of-00003.gguf": weights[f"part {i}"] for i in (1, 2, 3)})
    steps = pull(store, RemoteReference.parse(f"hf.co/{REPOSITORY}"), Network(policy=POLICY))
    async with aclosing(steps):
        async for progress in steps:
            if progress.status == "joining 3 parts":
                break
    assert [path.endswith("-download") for path in files(store.root)] == [True] * 3
    hub.storage_log.clear()
    await lines(store)
    assert len(hub.storage_log) == 1  # the header
    assert len(files(store.root)) == 3


async def test_a_missing_part_is_named(store: Store, hub: HubServer, weights: Weights) -> None:
    hub.add(REPOSITORY, {f"a-0000{i}-of-00003.gguf": weights[f"part {i}"] for i in (1, 3)})
    with pytest.raises(PullFailed, match=r"of the 3 parts of a these are missing .*: 2; choose"):
        await lines(store)
    assert_nothing_kept(store)


async def test_a_projector_is_stored_with_the_model(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    projector = weights["drafter"]  # any GGUF: what counts is its name
    hub.add(
        REPOSITORY,
        {
            "a-Q4_K_M.gguf": weights["gemma"],
            "mmproj-F32.gguf": b"GGUF",
            "mmproj-F16.gguf": projector,
        },
    )
    told = await lines(store)
    assert "selected the projector mmproj-F16.gguf" in statuses(told)
    manifest = store.manifest(Name.parse(f"hf.co/{REPOSITORY}"))
    assert [la.digest for la in manifest.of(media.PROJECTOR)] == [f"sha256:{sha256(projector)}"]


async def test_the_token_goes_to_the_hub_alone(
    store: Store, hub: HubServer, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens.add("hf_secret")
    hub.add(
        REPOSITORY,
        {"a.gguf": weights["llama"]},
        gated="manual",
        is_private=True,
        readers={"hf_secret"},
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    await lines(store)
    assert {h["Authorization"] for _, _, h in hub.log} == {"Bearer hf_secret"}
    assert hub.storage_log
    assert not any("Authorization" in h for _, _, h in hub.storage_log)


@pytest.mark.parametrize("token", ["", "hf_other"])
async def test_a_gated_repository(
    store: Store,
    hub: HubServer,
    weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
) -> None:
    hub.tokens.add("hf_other")
    monkeypatch.setenv("HF_TOKEN", token)
    hub.add(REPOSITORY, {"a.gguf": weights["llama"]}, gated="auto")
    message = (
        f"access to {REPOSITORY} is restricted: accept its terms at {hub.url}/{REPOSITORY}, and "
        f"set HF_TOKEN to a token of {hub.url}/settings/tokens that may read it"
    )
    with pytest.raises(PullFailed, match=message):
        await lines(store)
    assert_nothing_kept(store)


@pytest.mark.parametrize("token", ["", "hf_right"])
async def test_an_unknown_repository(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    hub.tokens.add("hf_right")
    monkeypatch.setenv("HF_TOKEN", token)
    message = "^pull model manifest: file does not exist: there is no repository user/none at "
    with pytest.raises(PullFailed, match=message):
        await lines(store, "hf.co/user/none")
    assert_nothing_kept(store)


async def test_a_token_that_the_hub_does_not_know(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(PullFailed, match="does not know the token in HF_TOKEN; set") as failed:
        await lines(store)
    assert "hf_old" not in str(failed.value)


async def test_a_renamed_repository(store: Store, hub: HubServer, weights: Weights) -> None:
    hub.add(REPOSITORY, {"a.gguf": weights["llama"]})
    hub.renamed["user/old"] = REPOSITORY
    await lines(store, "hf.co/user/old")
    assert [m.name.short for m in store.list()] == ["hf.co/user/old:latest"]


async def test_a_repository_without_gguf(store: Store, hub: HubServer) -> None:
    hub.add(REPOSITORY, {"model.safetensors": b"x", **TEXTS})
    with pytest.raises(PullFailed, match=f"{REPOSITORY} has no GGUF files"):
        await lines(store)


async def test_an_unknown_quantisation_lists_those_that_exist(
    store: Store, hub: HubServer, weights: Weights
) -> None:
    hub.add(REPOSITORY, {"a-Q8_0.gguf": weights["llama"], "a-UD-Q4_K_XL.gguf": b"GGUF"})
    with pytest.raises(PullFailed, match=r"has no Q2_K; it has Q8_0, UD-Q4_K_XL$"):
        await lines(store, f"hf.co/{REPOSITORY}:Q2_K")


async def test_a_limit_on_requests_is_told(store: Store, hub: HubServer) -> None:
    hub.refuse_with = 429, {"Retry-After": "300"}
    message = r"429: We had to rate limit your IP\.; .* try again in 300 s, or set HF_TOKEN"
    with pytest.raises(PullFailed, match=message):
        await lines(store)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("huggingface.co", "HF_ENDPOINT is 'huggingface.co', which is no URL such as https://"),
        ("http://127.0.0.1:9", "127.0.0.1:9 cannot be reached.*HF_ENDPOINT is http://127.0.0.1:9"),
    ],
)
async def test_a_wrong_endpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch, endpoint: str, message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(PullFailed, match=message):
        await lines(store)


async def test_an_endpoint_that_is_no_hub(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("user/site", {f"api/models/{REPOSITORY}": b"<html>"})
    endpoint = f"{hub.url}/user/site/resolve/{COMMIT}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    message = rf"does not answer as a Hugging Face hub does \(.*\); HF_ENDPOINT is {endpoint}$"
    with pytest.raises(PullFailed, match=message):
        await lines(store)


async def test_wrong_bytes_are_not_stored(store: Store, hub: HubServer, weights: Weights) -> None:
    data = weights["llama"]
    hub.add(REPOSITORY, {"a.gguf": data})
    hub.wrong_files[sha256(data)] = data[:-4] + b"evil"
    with pytest.raises(PullFailed, match=f"want sha256:{sha256(data)}, got"):
        await lines(store)
    assert_nothing_kept(store)


async def test_a_cut_download_is_resumed(store: Store, hub: HubServer, weights: Weights) -> None:
    """Nothing that has arrived is fetched twice, but for the header that is read before."""
    data = weights["llama"]
    hub.add(REPOSITORY, {"a.gguf": data})
    steps = pull(store, RemoteReference.parse(f"hf.co/{REPOSITORY}"), Network(policy=POLICY))
    async with aclosing(steps):
        async for progress in steps:
            if (progress.completed or 0) > 0:
                break
    assert ["download" in path for path in files(store.root)] == [True]
    hub.cut_after_bytes, hub.sent_bytes = 20_000, 0
    await lines(store)
    header_bytes = min(len(data), FIRST_BYTES)
    assert hub.sent_bytes < header_bytes + len(data)
    model = store.resolve(Name.parse(f"hf.co/{REPOSITORY}"))
    assert model.model_path is not None
    assert model.model_path.read_bytes() == data
