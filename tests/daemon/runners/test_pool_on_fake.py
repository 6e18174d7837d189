"""The pool's decisions, with runners that load nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import msgspec
import pytest
from fake_runner import FakeRunner, FakeRunners
from outrider.daemon.errors import Busy, DoesNotFit, LoadFailed
from outrider.daemon.protocol import DeviceBytes, Load, Ready
from outrider.daemon.runners.loaded_model import LoadedModel, RunnerSpec, can_serve, eviction_order
from outrider.daemon.runners.machine import Gpu, Machine
from outrider.daemon.runners.plan import LoadPlan
from outrider.daemon.runners.pool import QUEUE_FULL, PoolLimits, RunnerPool
from outrider.daemon.runners.runner import Runner
from outrider.quant.memory import MemoryEstimate, PartBytes

pytestmark = pytest.mark.unit

LOAD = Load("/m.gguf", num_ctx=512, cells=2048, slots=4, batch=128)
MOST_CTX = 65536  # tokens; each takes a byte of the made-up GPU
WEIGHTS = 100_000  # bytes of a made-up model


class MadeUpGpu:
    """A GPU on which each runner that is started takes what its plan needs, until it stops."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.taken: dict[str, int] = {}
        self.runners = FakeRunners()
        self.runners.ready = Ready(0, 0)
        self.hung: set[str] = set()
        self.reads = 0

    async def read(self) -> Machine:
        self.reads += 1
        free = self.total_bytes - sum(self.taken.values())
        gpu = Gpu("CUDA0", "made up", self.total_bytes, free)
        return Machine("linux", "made up", 2, 1 << 30, gpus=(gpu,))

    async def start(self, load: Load) -> FakeRunner:
        if load.model in self.hung:
            await asyncio.Event().wait()
        runner = await self.runners.start(load)
        self.taken[load.model] = WEIGHTS + load.num_ctx
        stop = runner.stop

        async def free() -> None:
            await stop()
            self.taken.pop(load.model, None)

        runner.stop = free  # type: ignore[method-assign]
        return runner


def fitted(name: str, least_ctx: int = 4096, most_ctx: int = MOST_CTX) -> RunnerSpec:
    """A model whose context is as long as the GPU allows."""
    wish = Load(f"/{name}.gguf", num_ctx=least_ctx, cells=2048, slots=4, batch=128)

    def plan(machine: Machine) -> LoadPlan:
        num_ctx = min(machine.gpus[0].free_bytes - WEIGHTS, most_ctx)
        if num_ctx < least_ctx:
            raise DoesNotFit(f"{name} does not fit")
        need = MemoryEstimate(PartBytes(), (PartBytes(WEIGHTS, num_ctx),))
        return LoadPlan(msgspec.structs.replace(wish, num_ctx=num_ctx), need, gpus=("CUDA0",))

    return RunnerSpec(name, "digest", wish, plan)


def pool_on(gpu: MadeUpGpu, max_loaded: int = 3) -> RunnerPool:
    return RunnerPool(gpu.start, PoolLimits(max_loaded), keep_alive_s=300, read_machine=gpu.read)


def contexts(pool: RunnerPool) -> dict[str, int]:
    return {model.spec.name: model.load.num_ctx for model in pool.loaded_models}


def loaded(
    name: str, *, users: int = 0, keep_alive_s: float = 300.0, idle_since_s: float = 0
) -> LoadedModel:
    runner = cast(Runner, None)  # the decision does not look at it
    plan = LoadPlan(LOAD, MemoryEstimate(PartBytes()))
    model = LoadedModel(RunnerSpec(name, "", LOAD), plan, runner, keep_alive_s, users)
    model.idle_since_s = idle_since_s
    return model


async def use(pool: RunnerPool, *specs: RunnerSpec) -> None:
    """One after the other."""
    for each in specs:
        async with pool.lease(each, None):
            pass


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - plans are computed in threads
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"num_ctx": 513}, False),
        ({"num_ctx": 256, "cells": 1024, "slots": 2, "batch": 64, "profile": "/p"}, True),
        ({"batch": 129}, False),
        ({"draft": "/d.gguf"}, False),
        ({"flash_attention": True}, False),
        ({"threads": 1}, False),
        ({"main_gpu": 1}, False),
        ({"use_mmap": False}, False),
        ({"kv_type": "q8_0"}, False),
        ({"gpu_layers": 3}, False),
        ({"embedding": True}, False),
    ],
)
def test_a_load_option_that_differs_needs_a_reload(
    changes: dict[str, object], serves: bool
) -> None:
    facts = {name: getattr(LOAD, name) for name in LOAD.__struct_fields__}
    assert can_serve(LOAD, Load(**{**facts, **changes})) is serves


@pytest.mark.parametrize(
    ("loaded", "spec", "serves"), [(7, -1, True), (-1, 7, False), (0, 0, True)]
)
def test_automatic_gpu_layers_take_whatever_is_there(loaded: int, spec: int, serves: bool) -> None:
    there, asked = (
        Load("/m", num_ctx=4, cells=256, slots=1, batch=32, gpu_layers=layers)
        for layers in (loaded, spec)
    )
    assert can_serve(there, asked) is serves


@pytest.mark.parametrize(
    ("given_up", "differs", "serves"),
    [
        ({"kv_type": "q8_0"}, {}, True),
        ({"draft": ""}, {}, True),
        ({"mtp": False, "gpu_layers": 7, "host_experts": 3, "main_gpu": 1}, {}, True),
        ({"kv_type": "q8_0"}, {"kv_type": "f32"}, False),
        ({"draft": ""}, {"draft": "/other.gguf"}, False),
        ({"kv_type": "q8_0"}, {"threads": 5}, False),
    ],
)
def test_what_was_given_up_is_given_up_again(
    given_up: dict[str, object], differs: dict[str, object], serves: bool
) -> None:
    wish = msgspec.structs.replace(LOAD, draft="/d.gguf", mtp=True)
    there = msgspec.structs.replace(wish, **given_up)
    asked = msgspec.structs.replace(wish, **differs)
    assert can_serve(there, asked, wish) is serves


async def test_idle_models_are_evicted_before_busy_ones_and_short_stays_before_long_ones() -> None:
    busy = loaded("busy", users=1, keep_alive_s=1)
    forever = loaded("forever", keep_alive_s=math.inf)
    old, young = loaded("old", idle_since_s=1), loaded("young", idle_since_s=2)
    order = [old, young, forever, busy]
    for models in (order, order[::-1], [young, busy, forever, old]):
        assert eviction_order(models) == order
    assert eviction_order([]) == []


async def test_models_stay_side_by_side_as_long_as_contexts_are_comfortable() -> None:
    gpu = MadeUpGpu(300_000)
    pool = pool_on(gpu)
    await use(pool, fitted("a"), fitted("b"))
    assert contexts(pool) == {"a": MOST_CTX, "b": 300_000 - 2 * WEIGHTS - MOST_CTX}
    await use(pool, fitted("a"), fitted("b"))
    assert len(gpu.runners.loads) == 2
    await pool.close()


async def test_an_idle_model_goes_where_the_context_would_be_short_beside_it() -> None:
    gpu = MadeUpGpu(275_000)
    pool = pool_on(gpu)
    await use(pool, fitted("a"), fitted("b"))
    assert contexts(pool) == {"b": MOST_CTX}
    await use(pool, fitted("short", most_ctx=5000))
    assert contexts(pool) == {"b": MOST_CTX, "short": 5000}
    await pool.close()


async def test_a_busy_model_goes_after_its_last_request_and_takes_no_new_ones() -> None:
    gpu = MadeUpGpu(200_000)
    pool = pool_on(gpu)
    async with pool.lease(fitted("a"), None) as runner:
        second = asyncio.create_task(use(pool, fitted("b")))
        await until(lambda: pool.loaded_models[0].is_leaving)
        third = asyncio.create_task(use(pool, fitted("a")))
        await asyncio.sleep(0.01)
        assert runner.is_alive, "no load ends a stream"
        assert not second.done()
        assert not third.done()
    await asyncio.gather(second, third)
    assert [load.model for load in gpu.runners.loads] == ["/a.gguf", "/b.gguf", "/a.gguf"]
    await pool.close()


async def test_what_can_never_fit_is_refused_and_unloads_nobody() -> None:
    gpu = MadeUpGpu(300_000)
    pool = pool_on(gpu)
    await use(pool, fitted("a"))
    with pytest.raises(DoesNotFit):
        await use(pool, fitted("b", least_ctx=250_000, most_ctx=250_000))
    assert set(contexts(pool)) == {"a"}
    await pool.close()


async def test_what_other_programs_leave_no_room_for_is_refused_and_unloads_nobody() -> None:
    gpu = MadeUpGpu(8 << 30)
    pool = pool_on(gpu)
    await use(pool, fitted("a"))
    gpu.taken["another program"] = 4 << 30
    with pytest.raises(DoesNotFit):
        await use(pool, fitted("b", least_ctx=6 << 30, most_ctx=6 << 30))
    assert set(contexts(pool)) == {"a"}
    await pool.close()


async def test_what_does_not_fit_by_a_little_is_refused_when_all_are_gone() -> None:
    """A model may give back more than what is measured of it."""
    gpu = MadeUpGpu(300_000)
    pool = pool_on(gpu)
    await use(pool, fitted("a"))
    gpu.taken["another program"] = 120_000
    with pytest.raises(DoesNotFit):
        await use(pool, fitted("b", least_ctx=90_000, most_ctx=90_000))
    assert contexts(pool) == {}
    await use(pool, fitted("c"))
    assert contexts(pool) == {"c": MOST_CTX}
    await pool.close()


async def test_a_model_that_is_unloaded_while_it_loads_goes_after_its_request() -> None:
    gpu, starts, may_start = MadeUpGpu(300_000), asyncio.Event(), asyncio.Event()

    async def start(load: Load) -> FakeRunner:
        starts.set()
        await may_start.wait()
        return await gpu.start(load)

    pool = RunnerPool(start, PoolLimits(), keep_alive_s=300, read_machine=gpu.read)
    first = asyncio.create_task(use(pool, fitted("a")))
    await starts.wait()
    await pool.unload("/b.gguf")
    await pool.unload("/a.gguf")
    may_start.set()
    await first
    await until(lambda: not contexts(pool))
    await use(pool, fitted("a"))
    assert set(contexts(pool)) == {"a"}, "the next load is another one"
    await pool.close()


async def test_a_hung_load_does_not_block_a_loaded_model() -> None:
    gpu = MadeUpGpu(900_000)
    gpu.hung = {"/b.gguf"}
    pool = pool_on(gpu)
    await use(pool, fitted("a"))
    hung = asyncio.create_task(use(pool, fitted("b")))
    await asyncio.sleep(0.02)
    await use(pool, fitted("a"))
    assert not hung.done()
    hung.cancel()
    await pool.close()


async def test_loads_go_on_beside_one_that_takes_long_and_leave_it_its_memory() -> None:
    gpu, may_load = MadeUpGpu(2 * WEIGHTS + 80_000), asyncio.Event()

    async def start(load: Load) -> FakeRunner:
        if load.model == "/slow.gguf":
            await may_load.wait()
        return await gpu.start(load)

    limits = PoolLimits(alone_s=0.02)
    pool = RunnerPool(start, limits, keep_alive_s=300, read_machine=gpu.read)
    slow = asyncio.create_task(use(pool, fitted("slow", most_ctx=50_000)))
    again = asyncio.create_task(use(pool, fitted("slow", most_ctx=50_000)))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await use(pool, fitted("a"))
    assert contexts(pool) == {"a": 30_000}
    waiting = asyncio.create_task(use(pool, fitted("b", least_ctx=40_000)))
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (slow, again, waiting))
    assert contexts(pool) == {"a": 30_000}, "it does not help to unload it"
    may_load.set()
    async with asyncio.timeout(5):
        await asyncio.gather(slow, again, waiting)
    assert "b" in contexts(pool)
    await pool.close()


async def test_a_load_that_fails_late_is_planned_again_while_another_one_runs() -> None:
    gpu, tried = MadeUpGpu(900_000), list[str]()

    async def start(load: Load) -> FakeRunner:
        tried.append(load.model)
        if tried == ["/a.gguf"]:
            await asyncio.sleep(0.05)
            raise LoadFailed("cudaMalloc failed: out of memory")
        return await gpu.start(load)

    pool = RunnerPool(start, PoolLimits(alone_s=0.01), keep_alive_s=300, read_machine=gpu.read)
    await asyncio.gather(use(pool, fitted("a")), use(pool, fitted("b")))
    assert tried == ["/a.gguf", "/b.gguf", "/a.gguf"]
    await pool.close()


async def test_each_load_reads_the_free_memory_and_no_other_request_does() -> None:
    gpu = MadeUpGpu(900_000)
    pool = pool_on(gpu)
    await use(pool, fitted("a"))
    reads = gpu.reads
    await use(pool, fitted("a"), fitted("a"))
    assert gpu.reads == reads > 0
    await pool.close()


async def test_an_automatic_context_is_served_by_any_comfortable_one() -> None:
    gpu = MadeUpGpu(900_000)
    pool = pool_on(gpu)
    await use(pool, fitted("a", least_ctx=5000, most_ctx=5000), fitted("a"))
    assert contexts(pool) == {"a": 5000}
    await use(pool, fitted("a", least_ctx=6000, most_ctx=6000))
    assert contexts(pool) == {"a": 6000}
    await pool.close()


async def test_a_load_that_lacks_memory_is_planned_again_for_less() -> None:
    gpu = MadeUpGpu(150_000)
    tried: list[int] = []

    async def start(load: Load) -> FakeRunner:
        tried.append(load.num_ctx)
        if load.num_ctx > 40_000:
            raise LoadFailed("cudaMalloc failed: out of memory")
        return await gpu.start(load)

    pool = RunnerPool(start, PoolLimits(3), keep_alive_s=300, read_machine=gpu.read)
    await use(pool, fitted("a"))
    assert tried == [50_000, 35_000]
    tried.clear()
    with pytest.raises(LoadFailed, match="out of memory"):
        await use(pool, fitted("b", least_ctx=50_000, most_ctx=50_000))
    assert tried == [50_000], "a second plan would be the same, or does not fit"
    await pool.close()


async def test_three_models_take_turns_where_one_fits() -> None:
    gpu = MadeUpGpu(200_000)
    pool = pool_on(gpu)
    async with asyncio.timeout(10):
        await asyncio.gather(*(use(pool, fitted(name)) for name in "abcabcabc"))
    assert len(contexts(pool)) == 1
    await pool.close()


def test_what_is_measured_replaces_what_was_planned() -> None:
    runners = FakeRunners()
    measured = DeviceBytes("CUDA0", True, weights_bytes=30, cache_bytes=12)
    runners.ready = Ready(0, 0, devices=(measured,))
    need = MemoryEstimate(PartBytes(weights_bytes=5), (PartBytes(weights_bytes=40),))
    plan = LoadPlan(LOAD, need, gpus=("CUDA0",))
    model = LoadedModel(RunnerSpec("a", "", LOAD), plan, FakeRunner(LOAD, runners), 300)
    assert model.device_bytes == {"CPU": 5, "CUDA0": 42}
    assert model.mapped_bytes == 5
    read = replace(plan, load=msgspec.structs.replace(LOAD, use_mmap=False))
    model = LoadedModel(RunnerSpec("a", "", LOAD), read, FakeRunner(LOAD, runners), 300)
    assert model.mapped_bytes == 0


async def test_each_load_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "outrider.daemon.runners.pool")
    pool = pool_on(MadeUpGpu(900_000))
    plan = LoadPlan(LOAD, MemoryEstimate(PartBytes()), ("the context shrinks",), (), "4 slots")
    await use(pool, RunnerSpec("a", "digest", LOAD, lambda _machine: plan))
    assert "a: 4 slots; the context shrinks" in caplog.messages
    await pool.close()


async def test_a_load_teaches_what_was_taken() -> None:
    recorded: list[tuple[LoadPlan, Ready]] = []
    spec = RunnerSpec("a", "", LOAD, learn=lambda plan, ready: recorded.append((plan, ready)))
    gpu = MadeUpGpu(900_000)
    pool = pool_on(gpu)
    await use(pool, spec, spec)
    assert recorded == [(spec.plan(await gpu.read()), gpu.runners.ready)]
    await pool.close()


async def test_one_rule_for_bursts_whether_the_model_is_loaded_or_not() -> None:
    """OLLAMA_MAX_QUEUE bounds the requests that wait for a load and for a slot together."""
    gpu = MadeUpGpu(400_000)
    limits = PoolLimits(3, max_queue=5)
    pool = RunnerPool(gpu.start, limits, keep_alive_s=300, read_machine=gpu.read)
    a, b = fitted("a", most_ctx=4096), fitted("b", most_ctx=4096)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4 + 5):  # slots and places in the queue
            await stack.enter_async_context(pool.lease(a, None))
        for spec in (a, b):
            with pytest.raises(Busy, match=f"^{QUEUE_FULL}$"):
                await stack.enter_async_context(pool.lease(spec, None))
    await use(pool, a, b)
    await pool.close()


async def test_a_wait_for_a_load_has_an_end_and_a_load_has_none() -> None:
    gpu = MadeUpGpu(400_000)
    gpu.hung.add("/a.gguf")
    limits = PoolLimits(3, queue_s=0.02)
    pool = RunnerPool(gpu.start, limits, keep_alive_s=300, read_machine=gpu.read)
    first = asyncio.create_task(use(pool, fitted("a")))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match=r"^server busy, please try again\.  the request has waited"):
        await use(pool, fitted("b"))
    assert not first.done()
    await pool.close()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_requests_whose_clients_left_before_their_load_began_load_nothing() -> None:
    gpu = MadeUpGpu(400_000)
    gpu.hung.add("/a.gguf")
    pool = pool_on(gpu)
    tasks = [asyncio.create_task(use(pool, fitted(name))) for name in ("a", "b", "c", "d")]
    await asyncio.sleep(0.05)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks[1:])
    await asyncio.sleep(0)
    assert len(pool._tasks) == 2  # the load that has begun, and who waits for it
    await pool.close()
    await asyncio.wait(tasks)


async def test_a_busy_model_stays_when_who_wants_its_place_has_left() -> None:
    gpu = MadeUpGpu(110_000)
    pool = pool_on(gpu)
    a = fitted("a")
    async with pool.lease(a, None):
        waiting = asyncio.create_task(use(pool, fitted("b")))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(0)
        await use(pool, a)  # without a second load
    assert len(gpu.runners.loads) == 1
    await pool.close()
