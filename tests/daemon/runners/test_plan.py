"""The plan: how a model is loaded for a request, on a machine that is a value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from outrider.daemon.config import Settings
from outrider.daemon.errors import DoesNotFit
from outrider.daemon.options import Options
from outrider.daemon.protocol import Load
from outrider.daemon.runners.loaded_model import can_serve
from outrider.daemon.runners.machine import Gpu, Machine
from outrider.daemon.runners.model_info import ModelIndex, ModelInfo
from outrider.daemon.runners.plan import (
    LoadPlan,
    gives_up_little,
    plan_embedding,
    plan_load,
    word_wish,
)
from outrider.daemon.runners.wish import wish_of
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


def test_a_context_that_is_cut_to_the_models_own_is_told(info: ModelInfo) -> None:
    def said(num_ctx: int) -> tuple[str, ...]:
        options = Options.merge({"num_ctx": num_ctx})
        return plan_load(trained_for(info, 2048), options, Settings.load(), MACHINE).concessions

    assert said(0) == said(2048) == ()
    assert said(9000) == (
        "2,048 tokens of context in place of 9,000: the model was trained with no more",
    )


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
    assert large.total_bytes == large.host.total_bytes > small.total_bytes
    drafted = dataclasses.replace(info, adjacent_drafter=info.path, drafter=info.header)
    planned = plan_load(drafted, Options(), Settings.load(), MACHINE)
    assert planned.need.host.drafter_bytes >= sum(t.size_bytes for t in info.header.tensors)


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


def short_of(info: ModelInfo, num_bytes: int, **settings: object) -> LoadPlan:
    """The plan on a host with room for so many bytes."""
    machine = dataclasses.replace(
        MACHINE, available_bytes=num_bytes + MACHINE.memory_bytes // 10 + (1 << 26)
    )
    return plan_load(info, Options(), Settings.load(**settings), machine)


def test_a_long_context_is_as_long_as_fits_half_of_what_is_left(info: ModelInfo) -> None:
    endless = trained_for(info, 1 << 24)
    plans = [short_of(endless, num_bytes) for num_bytes in (1 << 29, 1 << 30)]
    assert [plan.load.num_ctx % 256 for plan in plans] == [0, 0]
    assert 4096 < plans[0].load.num_ctx < plans[1].load.num_ctx < 1 << 24
    assert plans[0].concessions[0].startswith("the context shrinks from 16,777,216 to")
    assert plans[0].load.kv_type == "f16"
    assert plans[0].load.cells == plans[0].load.num_ctx


def test_the_setting_of_the_context_is_kept(info: ModelInfo) -> None:
    big = trained_for(info, 1 << 24)
    assert short_of(big, 1 << 30, context_length=5000).load.num_ctx == 5000
    with pytest.raises(DoesNotFit, match=r"^plain:latest needs at least .* would fit$"):
        short_of(big, 1 << 28, context_length=1 << 24)


def on_gpu(info: ModelInfo, **options: object) -> LoadPlan:
    gpu = Gpu("CUDA0", "made up", 24 << 30, 23 << 30)
    machine = dataclasses.replace(MACHINE, gpus=(gpu,))
    return plan_load(info, Options.merge(options), Settings.load(), machine)


def test_all_layers_go_to_a_gpu_with_room(info: ModelInfo) -> None:
    layers = info.header.block_count
    assert layers
    plan = on_gpu(info)
    assert (plan.load.gpu_layers, plan.load.tensor_split, plan.warnings) == (layers + 1, (), ())
    assert f"all {layers + 1} layers on CUDA0" in plan.summary
    assert plan.gpus == ("CUDA0",)
    assert on_gpu(info, num_gpu=1).load.gpu_layers == 1
    assert on_gpu(info, num_gpu=1).warnings == (
        f"{layers} of {layers + 1} layers are on the CPU, as num_gpu 1 asks for",
    )


@pytest.mark.parametrize(
    ("changes", "kv_types"),
    [
        ({}, ("f16", "q8_0", "q4_0")),
        ({"flash_attention": "0"}, ("f16",)),
        ({"kv_cache_type": "f16"}, ("f16",)),
    ],
)
def test_which_types_of_the_cache_a_plan_may_choose(
    info: ModelInfo, changes: dict[str, object], kv_types: tuple[str, ...]
) -> None:
    values = dict(info.header.values) | {"llama.attention.key_length": 64}
    whole = dataclasses.replace(info, header=dataclasses.replace(info.header, values=values))
    settings = Settings.load(**changes)
    assert wish_of(whole, Options(), settings, embedding=False).kv_types == kv_types
    values["llama.attention.value_length"] = 80  # no whole number of blocks
    odd = dataclasses.replace(info, header=dataclasses.replace(info.header, values=values))
    assert wish_of(odd, Options(), settings, embedding=False).kv_types == ("f16",)


def test_a_drafter_of_the_settings_is_never_given_up(info: ModelInfo, tmp_path: Path) -> None:
    def drafters(found: ModelInfo, **changes: object) -> list[str]:
        settings = Settings.load(**changes)
        wish = wish_of(found, Options(), settings, embedding=False)
        return [drafter.path for drafter in wish.drafters]

    path = tmp_path / "d.gguf"
    path.write_bytes(b"")
    beside = dataclasses.replace(info, adjacent_drafter=Path("/beside.gguf"))
    assert drafters(info) == [""]
    assert drafters(beside) == ["/beside.gguf", ""]
    assert drafters(beside, draft=str(path)) == [str(path)]


def test_the_wish_of_a_request_is_the_least_that_serves_it(info: ModelInfo) -> None:
    big = trained_for(info, 131_072)
    for options in ({}, {"num_batch": 9000}, {"num_ctx": 50_000}, {"num_gpu": 3}):
        asked = Options.merge(options)
        for embedding in (False, True):
            request = LoadRequest(big, asked, Settings.load(), MACHINE, embedding)
            wish = word_wish(request)
            make = plan_embedding if embedding else plan_load
            for machine in (MACHINE, dataclasses.replace(MACHINE, available_bytes=2 << 30)):
                loaded = make(big, asked, Settings.load(), machine).load
                assert can_serve(loaded, wish, wish)


def test_a_plan_that_gives_up_no_more_than_context_gives_up_little(info: ModelInfo) -> None:
    endless = trained_for(info, 1 << 24)
    best = short_of(endless, 1 << 30)
    assert gives_up_little(best, best)
    shorter = short_of(endless, 3 << 28)
    assert shorter.load.num_ctx < best.load.num_ctx
    assert gives_up_little(shorter, best)
    fewer = dataclasses.replace(shorter, load=msgspec.structs.replace(shorter.load, slots=2))
    assert not gives_up_little(fewer, best)
