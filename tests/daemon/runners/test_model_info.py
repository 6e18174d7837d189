"""The inventory: what is known of a model on disk, and how it is loaded for a request."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import psutil
import pytest
from outrider.daemon.config import Settings
from outrider.daemon.errors import NotFound
from outrider.daemon.options import Options
from outrider.daemon.protocol import Load
from outrider.daemon.runners import model_info
from outrider.daemon.runners.model_info import (
    READ_SHARE,
    ModelIndex,
    ModelInfo,
    plan_embedding,
    plan_load,
)
from outrider.models.store import Store
from tiny import CHATML, write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_recurrent import write_qwen35
from weights import import_gguf

pytestmark = pytest.mark.unit

THINKING = "{{ messages[0].content }}<think></think>"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "plain", write_llama(folder / "plain.gguf", template=CHATML))
    import_gguf(root, "thinker", write_llama(folder / "thinker.gguf", template=THINKING))
    embedder = write_llama(folder / "embedder.gguf", extra={"llama.pooling_type": 1})
    import_gguf(root, "embedder", embedder)
    return root


async def drafted(folder: Path, target: Path, **names: Path) -> Load:
    """The plan for a model whose weights lie where these files do."""
    import_gguf(folder, "drafted", target)
    for name, path in names.items():
        path.rename(folder / "blobs" / f"{name}.gguf")
    return plan(await ModelIndex(Store(folder)).find("drafted", "gone"))


@pytest.fixture
async def info(root: Path) -> ModelInfo:
    return await ModelIndex(Store(root)).find("plain", "gone")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUM_PARALLEL", "CONTEXT_LENGTH", "KV_CACHE_TYPE"):
        monkeypatch.delenv(f"OUTRIDER_{name}", raising=False)
        monkeypatch.delenv(f"OLLAMA_{name}", raising=False)


def trained_for(info: ModelInfo, context: int | None) -> ModelInfo:
    """The same model with another train context; None: the file does not say."""
    values = {k: v for k, v in info.header.values.items() if k != "llama.context_length"}
    if context is not None:
        values["llama.context_length"] = context
    return dataclasses.replace(info, header=dataclasses.replace(info.header, values=values))


def with_pooling(info: ModelInfo, pooling: int | None) -> ModelInfo:
    values = dict(info.header.values) | {"llama.pooling_type": pooling}
    values = {k: v for k, v in values.items() if v is not None}
    return dataclasses.replace(info, header=dataclasses.replace(info.header, values=values))


def embedding_plan(info: ModelInfo, **options: object) -> Load:
    return plan_embedding(info, Options.merge(options), Settings.load())


def plan(info: ModelInfo, *, parallel: int = 4, length: int = 0, **options: object) -> Load:
    settings = Settings.load(num_parallel=parallel, context_length=length)
    return plan_load(info, Options.merge(options), settings)


def test_the_context_is_the_requests_then_the_settings_then_4096(info: ModelInfo) -> None:
    big = trained_for(info, 131072)
    assert plan(big).num_ctx == 4096
    assert plan(big, length=9000).num_ctx == 9000
    assert plan(big, length=9000, num_ctx=700).num_ctx == 700
    assert plan(big, num_ctx=700).num_ctx == 700


@pytest.mark.parametrize(("num_ctx", "expected"), [(1, 4), (3, 4), (-7, 4), (4, 4), (5, 5)])
def test_the_context_is_at_least_4(info: ModelInfo, num_ctx: int, expected: int) -> None:
    assert plan(info, num_ctx=num_ctx).num_ctx == expected


def test_the_context_is_at_most_what_the_model_was_trained_for(info: ModelInfo) -> None:
    small = trained_for(info, 2048)
    assert plan(small).num_ctx == 2048
    assert plan(small, length=3000).num_ctx == 2048
    assert plan(small, num_ctx=999_999).num_ctx == 2048
    assert plan(small, num_ctx=2047).num_ctx == 2047


def test_a_model_that_states_no_context_gets_what_is_asked_for(info: ModelInfo) -> None:
    mute = trained_for(info, None)
    assert plan(mute).num_ctx == 4096
    assert plan(mute, num_ctx=50_000).num_ctx == 50_000


@pytest.mark.parametrize(
    ("num_ctx", "parallel", "cells"),
    [
        (4096, 4, 16384),  # a whole context for each slot
        (4096, 1, 4096),
        (4096, 8, 32768),
        (4096, 64, 32768),  # more than the pool: shared
        (20_000, 4, 32768),
        (32768, 4, 32768),
        (50_000, 4, 50_176),  # one long context is never cut
        (131_072, 2, 131_072),
        (1000, 1, 1024),  # llama.cpp wants steps of 256
        (1000, 3, 3072),
        (4, 1, 256),
    ],
)
def test_the_pool_of_cells(info: ModelInfo, num_ctx: int, parallel: int, cells: int) -> None:
    load = plan(trained_for(info, 131072), parallel=parallel, num_ctx=num_ctx)
    assert (load.num_ctx, load.slots, load.cells) == (num_ctx, parallel, cells)


@pytest.mark.parametrize(
    ("num_batch", "parallel", "batch"),
    [
        (512, 4, 512),
        (1, 4, 32),
        (-9, 4, 32),
        (40, 4, 40),
        (1, 64, 64),  # every slot has a row of its own
        (1_000_000, 4, 2048),  # never more rows than cells
    ],
)
def test_the_rows_of_a_batch(info: ModelInfo, num_batch: int, parallel: int, batch: int) -> None:
    load = plan(info, parallel=parallel, num_ctx=512, num_batch=num_batch)
    assert load.batch == batch


@pytest.mark.parametrize("num_ctx", [1, 4, 255, 257, 4096, 33_000])
@pytest.mark.parametrize("parallel", [1, 3, 64])
@pytest.mark.parametrize("num_batch", [-1, 1, 512, 10**6])
def test_every_plan_can_be_carried_out(
    info: ModelInfo, num_ctx: int, parallel: int, num_batch: int
) -> None:
    big = trained_for(info, 131072)
    load = plan(big, parallel=parallel, num_ctx=num_ctx, num_batch=num_batch)
    assert 4 <= load.num_ctx <= load.cells
    assert load.cells % 256 == 0
    assert load.slots <= load.batch <= load.cells


def test_an_encoder_has_room_for_the_longest_text_in_one_batch(info: ModelInfo) -> None:
    for context, rows in ((512, 512), (100, 512), (2048, 2048), (131_072, 4096)):
        load = embedding_plan(with_pooling(trained_for(info, context), 1))
        assert load.embedding
        assert load.num_ctx == min(context, 4096)
        assert (load.batch, load.cells) == (rows, rows)


@pytest.mark.parametrize("pooling", [None, 3])
def test_texts_that_may_come_in_pieces_take_small_batches(
    info: ModelInfo, pooling: int | None
) -> None:
    load = embedding_plan(with_pooling(trained_for(info, 131_072), pooling))
    assert (load.num_ctx, load.cells, load.batch) == (4096, 4096, 512)


@pytest.mark.parametrize("num_ctx", [0, 1, 4, 700, 33_000])
@pytest.mark.parametrize("pooling", [None, 1, 2, 3])
@pytest.mark.parametrize("num_batch", [-1, 1, 512, 10**6])
def test_every_plan_for_embeddings_can_be_carried_out(
    info: ModelInfo, num_ctx: int, pooling: int | None, num_batch: int
) -> None:
    model = with_pooling(trained_for(info, 131_072), pooling)
    load = embedding_plan(model, num_ctx=num_ctx, num_batch=num_batch)
    assert 4 <= load.num_ctx <= load.cells
    assert load.slots <= load.batch <= load.cells
    assert load.cells % 256 == 0


def test_the_other_load_options_reach_the_runner(info: ModelInfo) -> None:
    load = plan(info, num_gpu=7, main_gpu=1, num_thread=3, use_mmap=False)
    assert (load.gpu_layers, load.main_gpu, load.threads, load.use_mmap) == (7, 1, 3, False)
    assert load.model == str(info.path)
    assert plan(info).gpu_layers == -1
    assert 1 <= plan(info).threads <= (psutil.cpu_count() or 1)


def test_small_weights_are_read_into_huge_pages_and_large_ones_mapped(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    size_bytes = info.header.size_bytes
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(model_info, "_memory_bytes", lambda: READ_SHARE * size_bytes)
    assert plan(info).use_mmap is False
    assert plan(info, use_mmap=True).use_mmap is True
    monkeypatch.setattr(model_info, "_memory_bytes", lambda: READ_SHARE * size_bytes - 1)
    assert plan(info).use_mmap is None
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(model_info, "_memory_bytes", lambda: 1 << 60)
    assert plan(info).use_mmap is None


def test_the_type_of_the_cache_is_a_setting(info: ModelInfo) -> None:
    assert plan(info).kv_type == "f16"
    settings = Settings.load(kv_cache_type="q8_0")
    assert plan_load(info, Options(), settings).kv_type == "q8_0"


async def test_a_drafter_beside_the_weights_is_found(tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    names = {"mtp-a": write_llama(tmp_path / "a.gguf"), "mtp-b": tmp_path / "b.gguf"}
    names["mtp-b"].write_text("no GGUF")
    names["gemma4-assistant"] = write_gemma4_assistant(tmp_path / "d.gguf", target)
    load = await drafted(tmp_path / "models", target, **names)
    assert Path(load.draft).name == "gemma4-assistant.gguf"
    assert load.speculation is None


async def test_a_broken_drafter_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    drafter = write_gemma4_assistant(tmp_path / "d.gguf", target)
    import_gguf(tmp_path / "models", "drafted", target)
    beside = tmp_path / "models" / "blobs" / "mtp-a.gguf"
    beside.write_text("no GGUF")
    model_index = ModelIndex(Store(tmp_path / "models"))
    for _ in range(3):
        assert (await model_index.find("drafted", "gone")).beside is None
    assert [record.args and record.args[0] for record in caplog.records] == [beside]
    beside.write_text("no GGUF either")
    assert (await model_index.find("drafted", "gone")).beside is None
    assert len(caplog.records) == 2
    drafter.rename(beside)
    assert (await model_index.find("drafted", "gone")).beside == beside.resolve()


async def test_a_drafter_of_another_target_is_left_alone(tmp_path: Path) -> None:
    drafter = write_gemma4_assistant(tmp_path / "d.gguf", write_gemma4(tmp_path / "t.gguf"))
    load = await drafted(tmp_path / "models", write_llama(tmp_path / "other.gguf"), mtp=drafter)
    assert load.draft == ""


async def test_a_head_of_the_models_own_drafts(tmp_path: Path) -> None:
    target = write_qwen35(tmp_path / "t.gguf", with_head=True)
    load = await drafted(tmp_path / "models", target)
    assert (load.draft, load.mtp, load.speculation) == ("", True, None)
    info = await ModelIndex(Store(tmp_path / "models")).find("drafted", "gone")
    assert not plan_load(info, Options(), Settings.load(speculation="off")).mtp
    assert not plan_load(info, Options(), Settings.load(draft=str(target))).mtp


def test_the_same_request_gives_the_same_plan(info: ModelInfo) -> None:
    assert plan(info, num_ctx=100) == plan(info, num_ctx=100)
    assert plan(info, num_ctx=100) != plan(info, num_ctx=101)
    assert plan(info, temperature=0.1) == plan(info, temperature=0.9)


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("plain", ["completion"]),
        ("thinker", ["completion", "thinking"]),
        ("embedder", ["embedding"]),
    ],
)
async def test_what_a_client_may_ask_of_a_model(
    root: Path, name: str, capabilities: list[str]
) -> None:
    found = await ModelIndex(Store(root)).find(f" {name} ", "gone")
    assert found.capabilities == capabilities
    assert found.can(capabilities[0])
    assert not found.can("vision")


async def test_an_unknown_model_is_told_in_the_words_of_its_route(root: Path) -> None:
    with pytest.raises(NotFound, match=r"^model 'x' is not here$"):
        await ModelIndex(Store(root)).find("x", "model 'x' is not here")


async def test_a_header_is_read_once(root: Path) -> None:
    model_index = ModelIndex(Store(root))
    assert (await model_index.find("plain", "")).header is (
        await model_index.find("plain", "")
    ).header


async def test_a_model_that_cannot_be_read_is_listed_without_a_header(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    import_gguf(tmp_path / "models", "broken", broken)
    import_gguf(tmp_path / "models", "whole", write_llama(tmp_path / "whole.gguf"))
    listed = await ModelIndex(Store(tmp_path / "models")).list()
    headers = {model.name.short: info and info.header.architecture for model, info in listed}
    assert headers == {"broken:latest": None, "whole:latest": "llama"}
