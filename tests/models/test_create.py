"""Does a created model have exactly the layers of its spec, and is an invalid spec refused?"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ollama_folder import files, put_model
from outrider.models import manifest as media
from outrider.models.create import create
from outrider.models.create_spec import CreateSpec
from outrider.models.errors import CreateRefused, DamagedModel, ModelNotFound
from outrider.models.model import StoredModel
from outrider.models.name import Name
from outrider.models.store import Store
from outrider.quant.gguf import read_header
from tiny import write_gguf, write_llama
from tiny_gemma import write_gemma4
from tiny_lora import write_lora
from tiny_split import split_gguf

pytestmark = pytest.mark.unit

NAME = Name.parse("made")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def upload(store: Store, tmp_path: Path) -> Callable[[str], str]:
    """The digest of one of several kinds of files, which is now a blob."""
    makers: dict[str, Callable[[Path], Path]] = {
        "llama": lambda path: write_llama(path, embd=32, vocab=270),
        "small": lambda path: write_llama(path, embd=32, vocab=270, layers=1),
        "gemma4": write_gemma4,
        "mmproj": lambda path: _headers(path, "clip"),
        "lora": lambda path: write_lora(path, makers["llama"](path.with_name("base.gguf"))),
        "misfit": lambda path: write_lora(path, write_llama(path.with_name("wide.gguf"), embd=64)),
        "part": lambda path: split_gguf(makers["llama"](path.with_name("s.gguf")), 3)[1],
    }
    return lambda kind: (
        store.blobs.add_bytes(makers[kind](tmp_path / f"{kind}.gguf").read_bytes()).digest
    )


def _headers(path: Path, architecture: str, **metadata: object) -> Path:
    return write_gguf(path, {"general.architecture": architecture, **metadata}, [])


async def make(store: Store, **parts: object) -> StoredModel:
    spec = CreateSpec(name=NAME, **parts)  # type: ignore[arg-type]
    await statuses(store, spec)
    return store.resolve(NAME)


async def statuses(store: Store, spec: CreateSpec) -> list[str]:
    return [progress.status async for progress in create(store, spec)]


async def test_a_file_is_stored_as_it_is(store: Store, upload: Callable[[str], str]) -> None:
    digest = upload("llama")
    lines = await statuses(store, CreateSpec(name=NAME, files={"m.gguf": digest}))
    model = store.resolve("made")
    assert model.model_path == store.blobs.path(digest)
    assert (model.config.model_format, model.config.model_family) == ("gguf", "llama")
    assert (model.config.file_type, model.parent_model) == ("F32", "")
    config = store.manifest(NAME).config.digest
    assert lines == [
        "parsing GGUF",
        "validating GGUF model",
        f"using existing layer {digest}",
        f"creating new layer {config}",
        "writing manifest",
        "success",
    ]


async def test_everything_that_can_be_stated(store: Store, upload: Callable[[str], str]) -> None:
    model = await make(
        store,
        files={"m.gguf": upload("llama"), "mmproj.gguf": upload("mmproj")},
        draft_files={"d.gguf": upload("small")},
        adapters={"a.gguf": upload("lora")},
        template="{{ .Prompt }}",
        system="be kind",
        params={"draft_num_predict": 8},
        messages=({"role": "user", "content": "hi"},),
        licenses=("mine", "yours", "mine"),
        renderer="r",
        parser="p",
        requires="0.14.0",
    )
    assert model.draft_path == store.blobs.path(upload("small"))
    assert model.projector_paths == (store.blobs.path(upload("mmproj")),)
    assert model.adapter_paths == (store.blobs.path(upload("lora")),)
    assert (model.template, model.system) == ("{{ .Prompt }}", "be kind")
    assert model.params == {"draft_num_predict": 8}
    assert model.messages == ({"role": "user", "content": "hi"},)
    assert model.licenses == ("mine", "yours")
    config = model.config
    assert (config.renderer, config.parser, config.requires) == ("r", "p", "0.14.0")
    assert config.model_families == ("llama", "clip")


async def test_a_base_hands_everything_on(store: Store, upload: Callable[[str], str]) -> None:
    base = await make(
        store,
        files={"m.gguf": upload("llama")},
        draft_files={"d.gguf": upload("small")},
        template="t",
        system="s",
        params={"top_k": 1, "stop": ["a"]},
        messages=({"role": "user", "content": "hi"},),
        licenses=("mine",),
        renderer="r",
        requires="0.14.0",
    )
    spec = CreateSpec(
        name=Name.parse("child"),
        base=NAME,
        system="other",
        params={"stop": ["b"], "seed": 1},
        licenses=("mine", "yours"),
    )
    assert "parsing GGUF" not in await statuses(store, spec)
    child = store.resolve("child")
    assert (child.model_path, child.draft_path) == (base.model_path, base.draft_path)
    assert (child.template, child.system, child.messages) == ("t", "other", base.messages)
    assert child.params == {"top_k": 1, "stop": ["b"], "seed": 1}
    assert child.licenses == ("mine", "yours")
    assert child.config == base.config
    assert child.parent_model == "made:latest"


async def test_a_drafter_is_replaced(store: Store, upload: Callable[[str], str]) -> None:
    await make(store, files={"m": upload("llama")}, draft_files={"d": upload("small")})
    model = await make(store, base=NAME, draft_files={"d": upload("gemma4")})
    assert model.draft_path == store.blobs.path(upload("gemma4"))
    assert len(store.manifest(NAME).of(media.DRAFT)) == 1


async def test_a_new_template_takes_the_place_of_an_old_prompt(
    store: Store, upload: Callable[[str], str]
) -> None:
    weights = store.blobs.path(upload("llama")).read_bytes()
    put_model(
        store.root, "registry.ollama.ai/library/old/latest", [("model", weights), ("prompt", b"p")]
    )
    model = await make(store, base=Name.parse("old"), template="new")
    assert model.template == "new"
    assert not store.manifest(NAME).of(media.PROMPT)


async def test_gemma4_gets_what_it_needs(store: Store, upload: Callable[[str], str]) -> None:
    model = await make(store, files={"m": upload("gemma4")})
    assert (model.config.renderer, model.config.parser) == ("gemma4", "gemma4")
    assert model.params == {"stop": ["<turn|>"]}
    model = await make(store, files={"m": upload("gemma4")}, params={"stop": ["x"]}, parser="p")
    assert (model.config.renderer, model.config.parser) == ("gemma4", "p")
    assert model.params == {"stop": ["x"]}


async def test_what_only_the_replaced_model_used_goes(
    store: Store, upload: Callable[[str], str]
) -> None:
    await make(store, files={"m": upload("llama")}, system="alone", template="shared")
    store.copy(NAME, Name.parse("copy"))
    await make(store, files={"m": upload("small")}, template="shared")
    assert store.resolve("copy").system == "alone"
    store.delete(Name.parse("copy"))
    used = {blob.digest.replace(":", "-") for blob in store.manifest(NAME).blobs}
    assert {path.removeprefix("blobs/") for path in files(store.root) if "blobs" in path} == used


REFUSALS: list[tuple[dict[str, dict[str, str]], str]] = [
    ({"files": {"a": "llama", "b": "small"}}, "more than one of these are models: a, b"),
    ({"files": {"a": "mmproj"}}, "there are no GGUF weights of a model in a"),
    ({"files": {"a": "part"}}, "a: of 3 parts these are missing: 1, 3; upload all parts"),
    (
        {"files": {"a": "llama"}, "adapters": {"b": "misfit"}},
        "the adapter b does not fit the model: it expects blk.0.attn_q.weight of 64 x 64",
    ),
    ({"files": {"a": "llama"}, "draft_files": {"b": "llama"}}, "the drafter is the model itself"),
    ({"files": {"a": "llama"}, "draft_files": {"b": "mmproj"}}, "b is no model"),
    (
        {"files": {"a": "llama"}, "draft_files": {"b": "small", "c": "small"}},
        "one drafter, not b and c",
    ),
    ({"files": {"a": "llama"}, "adapters": {"b": "small"}}, "b is not an adapter"),
    (
        {"files": {"a": "llama"}, "adapters": {"b": "lora", "c": "lora"}},
        "^only one adapter is currently supported$",
    ),
]


@pytest.mark.parametrize(("parts", "error"), REFUSALS)
async def test_what_makes_no_model(
    store: Store, upload: Callable[[str], str], parts: dict[str, dict[str, str]], error: str
) -> None:
    digests = {k: {name: upload(kind) for name, kind in v.items()} for k, v in parts.items()}
    before = files(store.root)
    with pytest.raises(CreateRefused, match=error):
        await make(store, **digests)
    assert files(store.root) == before


async def test_broken_files_are_named_as_their_user_names_them(
    store: Store, upload: Callable[[str], str]
) -> None:
    whole = store.blobs.path(upload("llama")).read_bytes()
    short = store.blobs.add_bytes(whole[:-100]).digest
    with pytest.raises(CreateRefused, match=r"^my\.gguf is no usable GGUF file: its tensors need"):
        await make(store, files={"my.gguf": short})
    other = store.blobs.add_bytes(b'{"safe": "tensors"}').digest
    with pytest.raises(
        CreateRefused, match=r"^supplied file was not in GGUF format: convert w\.st"
    ):
        await make(store, files={"w.st": other})
    with pytest.raises(CreateRefused, match=r"the blob sha256:0{64} of m is not here"):
        await make(store, files={"m": "sha256:" + "0" * 64})


async def test_a_base_has_to_be_there_and_whole(store: Store, upload: Callable[[str], str]) -> None:
    with pytest.raises(ModelNotFound):
        await make(store, base=Name.parse("nobody"))
    await make(store, files={"m": upload("llama")})
    store.blobs.path(upload("llama")).unlink()
    with pytest.raises(DamagedModel, match="is missing"):
        await make(store, base=NAME)


async def test_a_stub_has_no_weights(store: Store) -> None:
    put_model(store.root, "registry.ollama.ai/library/stub/latest", [], config={"remote_host": "h"})
    with pytest.raises(CreateRefused, match="no GGUF weights of a model in stub:latest"):
        await make(store, base=Name.parse("stub"))


async def test_a_blob_that_goes_meanwhile_leaves_nothing(
    store: Store, upload: Callable[[str], str]
) -> None:
    spec = CreateSpec(name=NAME, files={"m": upload("llama")}, system="s")
    steps = create(store, spec)
    assert (await anext(steps)).status == "parsing GGUF"
    store.blobs.path(upload("llama")).unlink()
    with pytest.raises(DamagedModel, match="try again"):
        async for _ in steps:
            pass
    assert files(store.root) == set()


async def test_the_case_of_a_name_stays(store: Store, upload: Callable[[str], str]) -> None:
    await make(store, files={"m": upload("llama")})
    await statuses(store, CreateSpec(name=Name.parse("MADE"), base=NAME, system="s"))
    assert [model.name.short for model in store.list()] == ["made:latest"]


async def test_digests_are_written_as_ollama_does(
    store: Store, upload: Callable[[str], str]
) -> None:
    digest = upload("llama")
    await make(store, files={"m": digest.upper().replace("SHA256:", "sha256-")})
    assert store.manifest(NAME).of(media.MODEL)[0].digest == digest
    stored = json.loads(store.blobs.path(store.manifest(NAME).config.digest).read_bytes())
    assert stored["rootfs"]["diff_ids"] == [digest]


async def test_the_parts_of_a_model_become_one_layer(store: Store, tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "whole.gguf", embd=32, vocab=270)
    parts = split_gguf(whole, 4)
    uploads = {part.name: store.blobs.add_bytes(part.read_bytes()).digest for part in parts}
    names = list(reversed(uploads))
    spec = CreateSpec(name=NAME, files={name: uploads[name] for name in names})
    lines = [line async for line in create(store, spec)]
    joining = [line for line in lines if line.status == "joining 4 parts"]
    total = sum(part.stat().st_size for part in parts)
    assert joining[0].total == total
    assert [line.status for line in lines if line not in joining][:2] == [
        *("parsing GGUF", "validating GGUF model")
    ]
    model = store.resolve(NAME)
    assert model.model_path
    header = read_header(model.model_path)
    assert {t.name for t in header.tensors} == {t.name for t in read_header(whole).tensors}
    assert "split.count" not in header.values
    used = {blob.digest.replace(":", "-") for blob in store.manifest(NAME).blobs}
    assert {path.removeprefix("blobs/") for path in files(store.root) if "blobs" in path} == used


async def test_closing_leaves_nothing_of_a_joined_model(store: Store, tmp_path: Path) -> None:
    parts = split_gguf(write_llama(tmp_path / "whole.gguf", embd=32, vocab=270), 4)
    uploads = {part.name: store.blobs.add_bytes(part.read_bytes()).digest for part in parts}
    before = files(store.root)
    for status in ("joining 4 parts", "writing manifest"):
        steps = create(store, CreateSpec(name=NAME, files=uploads))
        async for step in steps:
            if step.status == status:
                break
        await steps.aclose()
        assert files(store.root) == before


async def test_an_adapter_that_is_inherited_has_to_fit_new_weights(
    store: Store, upload: Callable[[str], str], tmp_path: Path
) -> None:
    await make(store, files={"m": upload("llama")}, adapters={"a": upload("lora")})
    put = write_llama(tmp_path / "other.gguf", embd=64)
    other = store.blobs.add_bytes(put.read_bytes()).digest
    with pytest.raises(CreateRefused, match="more than one of these are models"):
        await make(store, base=NAME, files={"other": other})
    child = await make(store, base=NAME, system="s")
    assert child.adapter_paths == (store.blobs.path(upload("lora")),)


async def test_a_drafter_is_another_model(store: Store, upload: Callable[[str], str]) -> None:
    small = Name.parse("small")
    await statuses(store, CreateSpec(name=small, files={"s": upload("small")}))
    model = await make(store, files={"m": upload("llama")}, draft=small)
    assert model.draft_path == store.blobs.path(upload("small"))
    assert store.manifest(NAME).of(media.DRAFT)[0].source == "small:latest"
    with pytest.raises(CreateRefused, match="the drafter is the model itself"):
        await make(store, base=small, draft=small)
    with pytest.raises(CreateRefused, match="one drafter, not d and small:latest"):
        await make(store, base=NAME, draft=small, draft_files={"d": upload("gemma4")})


async def test_facts_of_the_config_are_replaced(store: Store, upload: Callable[[str], str]) -> None:
    info = {"model_type": "7B", "capabilities": ("tools",), "base_name": "tiny"}
    model = await make(store, files={"m": upload("llama")}, info=info)
    config = model.config
    assert (config.model_type, config.capabilities, config.base_name) == ("7B", ("tools",), "tiny")
    assert config.model_family == "llama"
