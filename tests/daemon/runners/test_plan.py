"""The plan: how a model is loaded for a request, on a machine that is a value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from outrider.daemon.config import Settings
from outrider.daemon.options import Options
from outrider.daemon.protocol import Load
from outrider.daemon.runners.machine import Machine
from outrider.daemon.runners.model_info import ModelIndex, ModelInfo
from outrider.daemon.runners.plan import LoadPlan, plan_embedding, plan_load, word_wish
from outrider.daemon.runners.wording import READ_DIVISOR, LoadRequest
from outrider.models.store import Store
from tiny import CHATML, write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_recurrent import write_qwen35
from weights import import_gguf

pytestmark = pytest.mark.unit

MACHINE = Machine("linux", "made up", physical_cores=6, memory_bytes=16 << 30)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "plain", write_llama(folder / "plain.gguf", template=CHATML))
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
    return plan_embedding(info, Options.merge(options), Settings.load(), MACHINE).load


def plan(info: ModelInfo, *, parallel: int = 4, length: int = 0, **options: object) -> Load:
    settings = Settings.load(num_parallel=parallel or None, context_length=length)
    return plan_load(info, Options.merge(options), settings, MACHINE).load


def test_the_context_is_the_requests_then_the_settings_then_the_models(info: ModelInfo) -> None:
    big = trained_for(info, 131072)
    assert plan(big).num_ctx == 131072
    assert plan(big, length=9000).num_ctx == 9000
    assert plan(big, length=9000, num_ctx=700).num_ctx == 700
    assert plan(big, num_ctx=700).num_ctx == 700


@pytest.mark.parametrize(("num_ctx", "expected"), [(1, 4), (3, 4), (4, 4), (5, 5)])
def test_the_context_is_at_least_4(info: ModelInfo, num_ctx: int, expected: int) -> None:
    assert plan(info, num_ctx=num_ctx).num_ctx == expected


@pytest.mark.parametrize("num_ctx", [0, -1, -7])
def test_no_context_length_is_no_wish(info: ModelInfo, num_ctx: int) -> None:
    assert plan(info, num_ctx=num_ctx) == plan(info)


def test_images_need_a_longer_context(info: ModelInfo) -> None:
    model = dataclasses.replace(info.model, projector_paths=(info.path,))
    big = trained_for(dataclasses.replace(info, model=model), 131072)
    assert plan(big, num_ctx=700).num_ctx == 2048
    assert plan(trained_for(big, 1000), num_ctx=700).num_ctx == 1000


def test_the_context_is_at_most_what_the_model_was_trained_for(info: ModelInfo) -> None:
    small = trained_for(info, 2048)
    assert plan(small).num_ctx == 2048
    assert plan(small, length=3000).num_ctx == 2048
    assert plan(small, num_ctx=999_999).num_ctx == 2048
    assert plan(small, num_ctx=2047).num_ctx == 2047


def test_a_model_that_states_no_context_gets_what_is_asked_for(info: ModelInfo) -> None:
    mute = trained_for(info, None)
    assert plan(mute).num_ctx == 4096, "the least that an automatic context has"
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
    for context, rows in ((512, 512), (100, 256), (2048, 2048), (131_072, 8192)):
        load = embedding_plan(with_pooling(trained_for(info, context), 1))
        assert load.embedding
        assert load.num_ctx == min(context, 8192)
        assert (load.batch, load.cells) == (rows, rows)


@pytest.mark.parametrize("pooling", [None, 3])
def test_texts_that_may_come_in_pieces_take_small_batches(
    info: ModelInfo, pooling: int | None
) -> None:
    load = embedding_plan(with_pooling(trained_for(info, 131_072), pooling))
    assert (load.num_ctx, load.cells, load.batch) == (131_072, 131_072, 512)


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
    assert plan(info).threads == MACHINE.physical_cores


@pytest.mark.parametrize(
    ("num_thread", "is_bound"),
    [(0, True), (6, True), (3, False), (9, False), (-1, True), (100_000, False)],
)
def test_threads_are_bound_where_there_is_one_for_each_core(
    info: ModelInfo, num_thread: int, is_bound: bool
) -> None:
    assert plan(info, num_thread=num_thread).bind_threads is is_bound


def test_threads_are_bound_to_the_cores_that_decode(info: ModelInfo) -> None:
    def load(places: str) -> Load:
        machine = dataclasses.replace(MACHINE, places=places)
        return plan_load(info, Options(), Settings.load(), machine).load

    assert (load("{0},{2}").bind_threads, load("{0},{2}").places) == (True, "{0},{2}")
    assert not load("").bind_threads


def test_the_priority_reaches_the_runner(info: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not plan(info).background
    monkeypatch.setenv("OUTRIDER_PRIORITY", "Background")
    assert plan(info).background


@pytest.mark.parametrize(("num_thread", "threads"), [(-1, 6), (0, 6), (12, 12), (5000, 12)])
def test_odd_numbers_of_threads(info: ModelInfo, num_thread: int, threads: int) -> None:
    assert plan(info, num_thread=num_thread).threads == threads


def test_small_weights_are_read_into_huge_pages_and_large_ones_mapped(info: ModelInfo) -> None:
    def use_mmap(machine: Machine, **options: object) -> bool | None:
        request = LoadRequest(info, Options.merge(options), Settings.load(), machine)
        return word_wish(request).use_mmap

    enough_bytes = READ_DIVISOR * info.header.size_bytes
    enough = dataclasses.replace(MACHINE, memory_bytes=enough_bytes)
    assert use_mmap(enough) is False
    assert use_mmap(enough, use_mmap=True) is True
    assert use_mmap(dataclasses.replace(MACHINE, memory_bytes=enough_bytes - 1)) is None
    assert use_mmap(dataclasses.replace(MACHINE, system="darwin")) is None


def test_a_plan_says_what_it_takes(info: ModelInfo) -> None:
    def need(**options: object) -> LoadPlan:
        return plan_load(info, Options.merge(options), Settings.load(), MACHINE)

    small, large = need(num_ctx=256).need, need(num_ctx=512).need
    assert small.host.weights_bytes == sum(t.size_bytes for t in info.header.tensors)
    assert large.host.cache_bytes == 2 * small.host.cache_bytes > 0
    assert (
        large.total_bytes
        == large.host.weights_bytes + large.host.cache_bytes + large.host.compute_bytes
    )
    drafted = dataclasses.replace(info, adjacent_drafter=info.path, drafter=info.header)
    planned = plan_load(drafted, Options(), Settings.load(), MACHINE)
    assert planned.need.host.drafter_bytes == info.header.size_bytes


def test_the_host_cache_and_the_profile_belong_to_the_machine(info: ModelInfo) -> None:
    def load(machine: Machine) -> Load:
        return plan_load(info, Options(), Settings.load(), machine).load

    assert load(MACHINE).host_cache_bytes == 1 << 30
    other = dataclasses.replace(MACHINE, processor="another")
    assert load(other).profile != load(MACHINE).profile
    assert load(dataclasses.replace(MACHINE, memory_bytes=8 << 30)).profile == load(MACHINE).profile


def test_adapters_are_loaded_over_mapped_weights(info: ModelInfo) -> None:
    """Runners of the same weights with different adapters share the pages of the file."""
    model = dataclasses.replace(info.model, adapter_paths=(Path("a"), Path("b")))
    tuned = dataclasses.replace(info, model=model, adapter_bytes=1000)
    assert plan(info).use_mmap is False
    for plan_of in (plan_load, plan_embedding):
        planned = plan_of(tuned, Options(), Settings.load(), MACHINE)
        assert planned.load.adapters == ("a", "b")
        assert planned.load.use_mmap is None
        assert planned.need.host.adapter_bytes == 1000
        plain = plan_of(info, Options(), Settings.load(), MACHINE)
        assert planned.need.total_bytes == plain.need.total_bytes + 1000
        assert planned.load.profile != plain.load.profile


def test_the_type_of_the_cache_is_a_setting(info: ModelInfo) -> None:
    assert plan(info).kv_type == "f16"
    settings = Settings.load(kv_cache_type="q8_0")
    assert plan_load(info, Options(), settings, MACHINE).load.kv_type == "q8_0"


async def test_a_drafter_beside_the_weights_is_found(tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    names = {"mtp-a": write_llama(tmp_path / "a.gguf"), "mtp-b": tmp_path / "b.gguf"}
    names["mtp-b"].write_text("no GGUF")
    names["gemma4-assistant"] = write_gemma4_assistant(tmp_path / "d.gguf", target)
    load = await drafted(tmp_path / "models", target, **names)
    assert Path(load.draft).name == "gemma4-assistant.gguf"
    assert load.speculation is None


async def test_a_drafter_of_another_target_is_left_alone(tmp_path: Path) -> None:
    drafter = write_gemma4_assistant(tmp_path / "d.gguf", write_gemma4(tmp_path / "t.gguf"))
    load = await drafted(tmp_path / "models", write_llama(tmp_path / "other.gguf"), mtp=drafter)
    assert load.draft == ""


async def test_a_head_of_the_models_own_drafts(tmp_path: Path) -> None:
    target = write_qwen35(tmp_path / "t.gguf", with_head=True)
    load = await drafted(tmp_path / "models", target)
    assert (load.draft, load.mtp, load.speculation) == ("", True, None)
    info = await ModelIndex(Store(tmp_path / "models")).find("drafted", "gone")
    assert not plan_load(info, Options(), Settings.load(speculation="off"), MACHINE).load.mtp
    assert not plan_load(info, Options(), Settings.load(draft=str(target)), MACHINE).load.mtp


def test_the_same_request_gives_the_same_plan(info: ModelInfo) -> None:
    assert plan(info, num_ctx=100) == plan(info, num_ctx=100)
    assert plan(info, num_ctx=100) != plan(info, num_ctx=101)
    assert plan(info, temperature=0.1) == plan(info, temperature=0.9)
