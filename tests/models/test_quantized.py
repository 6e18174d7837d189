"""Are the weights of a new model quantised, and does nothing stay of one that is not made?"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from ollama_folder import files
from outrider.models.create import create
from outrider.models.create_spec import CreateSpec
from outrider.models.errors import CreateFailed, CreateRefused
from outrider.models.model import StoredModel
from outrider.models.name import Name
from outrider.models.progress import CreateProgress
from outrider.models.quantized import NO_DIGEST, find_type
from outrider.models.store import Store
from outrider.quant.gguf import read_header
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_split import split_gguf

pytestmark = pytest.mark.model

NAME = Name.parse("made")
BASE = Name.parse("base")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def upload(store: Store, path: Path) -> str:
    return store.blobs.add_bytes(path.read_bytes()).digest


async def make(store: Store, spec: CreateSpec) -> StoredModel:
    async for _ in create(store, spec):
        pass
    return store.resolve(spec.name)


async def quantized(
    store: Store, spec: CreateSpec, weights: str = "", drafter: str = ""
) -> tuple[StoredModel, list[CreateProgress]]:
    """The model, and the lines about what is quantised."""
    steps = [step async for step in create(store, typed(spec, weights, drafter))]
    said = [step for step in steps if step.status.startswith(("quantizing", "verifying"))]
    return store.resolve(spec.name), said


def typed(spec: CreateSpec, weights: str = "", drafter: str = "") -> CreateSpec:
    return replace(spec, quantize=find_type(weights), draft_quantize=find_type(drafter))


async def test_uploaded_weights(store: Store, tmp_path: Path) -> None:
    digest = upload(store, write_llama(tmp_path / "m.gguf"))
    spec = CreateSpec(name=NAME, files={"m.gguf": digest})
    model, steps = await quantized(store, spec, "q8_0")
    assert model.config.file_type == "Q8_0"
    assert model.model_path
    assert read_header(model.model_path).quantisation == "Q8_0"
    *progress, last = steps
    assert {(p.status, p.digest) for p in progress} == {("quantizing F32 model to Q8_0", NO_DIGEST)}
    assert progress[-1].completed == progress[-1].total
    assert last == CreateProgress("verifying conversion")


async def test_the_weights_and_the_drafter_of_a_base(store: Store, tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    drafter = write_gemma4_assistant(tmp_path / "a.gguf", target)
    base = CreateSpec(
        name=BASE,
        files={"t.gguf": upload(store, target)},
        draft_files={"a.gguf": upload(store, drafter)},
        system="Be brief.",
    )
    before = await make(store, base)
    spec = CreateSpec(name=NAME, base=BASE)
    model, steps = await quantized(store, spec, "F16", "Q8_0")
    assert model.model_path
    assert model.draft_path
    assert read_header(model.model_path).quantisation == "F16"
    assert read_header(model.draft_path).quantisation == "Q8_0"
    assert (model.system, model.config.renderer) == ("Be brief.", "gemma4")
    assert (model.params, model.config.file_type) == (before.params, "F16")
    assert {step.status for step in steps} == {
        *("quantizing F32 model to F16", "quantizing F32 model to Q8_0", "verifying conversion"),
    }
    assert store.resolve(BASE) == before


async def test_a_file_that_has_the_type_stays(store: Store, tmp_path: Path) -> None:
    digest = upload(store, write_llama(tmp_path / "m.gguf"))
    model, steps = await quantized(store, CreateSpec(name=NAME, files={"m": digest}), "F32")
    assert steps == []
    assert model.model_path == store.blobs.path(digest)


async def test_what_is_quantised_already_is_refused(store: Store, tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    drafter = write_gemma4_assistant(tmp_path / "a.gguf", target)
    spec = CreateSpec(
        name=NAME,
        files={"t": upload(store, target)},
        draft_files={"a": upload(store, drafter)},
    )
    await quantized(store, spec, "Q8_0", "Q8_0")
    before = files(store.root)
    again = CreateSpec(name=BASE, base=NAME)
    with pytest.raises(CreateFailed, match="only supported for F16, BF16 and F32 models"):
        await quantized(store, again, "Q4_0")
    with pytest.raises(CreateFailed, match="requires an unquantized draft model, got Q8_0"):
        await quantized(store, again, "", "Q4_0")
    assert files(store.root) == before


async def test_a_drafter_that_is_not_there(store: Store, tmp_path: Path) -> None:
    spec = CreateSpec(name=NAME, files={"m": upload(store, write_llama(tmp_path / "m.gguf"))})
    with pytest.raises(CreateRefused, match="--draft-quantize requires a DRAFT model"):
        await quantized(store, spec, "", "Q8_0")


def test_an_unknown_type_is_told_before_anything_else() -> None:
    text = "unsupported quantization type Q9_K - supported types are F32, F16, "
    with pytest.raises(CreateFailed, match=text):
        find_type("Q9_K")


async def test_a_failure_or_an_end_before_the_model_is_made_leaves_nothing(
    store: Store, tmp_path: Path
) -> None:
    digest = upload(store, write_llama(tmp_path / "m.gguf", embd=256))
    before = files(store.root)
    spec = CreateSpec(name=NAME, files={"m": digest})
    with pytest.raises(CreateFailed, match="requires an importance matrix"):
        await quantized(store, spec, "IQ1_S")
    assert files(store.root) == before
    for last in ("quantizing F32 model to Q8_0", "writing manifest"):
        async with aclosing(create(store, typed(spec, "Q8_0"))) as steps:
            async for step in steps:
                if step.status == last and step.completed != 0:
                    break
        assert files(store.root) == before


async def test_the_parts_of_a_model_are_joined_and_quantised(store: Store, tmp_path: Path) -> None:
    parts = split_gguf(write_llama(tmp_path / "m.gguf"), 3)
    spec = CreateSpec(name=NAME, files={part.name: upload(store, part) for part in parts})
    model, _ = await quantized(store, spec, "q8_0")
    assert model.config.file_type == "Q8_0"
    used = {f"blobs/{blob.digest.replace(':', '-')}" for blob in store.manifest(NAME).blobs}
    assert {path for path in files(store.root) if "blobs" in path} == used


async def test_a_drafter_of_another_model_is_quantised(store: Store, tmp_path: Path) -> None:
    small = upload(store, write_llama(tmp_path / "s.gguf", layers=1))
    await make(store, CreateSpec(name=BASE, files={"s": small}))
    digest = upload(store, write_llama(tmp_path / "m.gguf"))
    spec = CreateSpec(name=NAME, files={"m": digest}, draft=BASE)
    model, _ = await quantized(store, spec, "", "Q8_0")
    assert model.draft_path
    assert read_header(model.draft_path).quantisation == "Q8_0"
    assert model.model_path == store.blobs.path(digest)
