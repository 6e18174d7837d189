"""CONTRACT 5, fact by fact: which models are loaded. The pool is tested in test_pool.py too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_runner import DONE, HANG, FakeRunner, FakeRunners
from front import Front, start_front
from outrider.daemon.errors import Busy, DecodeFailed, LoadFailed
from outrider.daemon.protocol import Delta, Load, Ready
from outrider.daemon.runners.loaded_model import RunnerSpec
from outrider.daemon.runners.pool import PoolLimits, RunnerPool
from outrider.models.name import Name

pytestmark = pytest.mark.unit

FULL_QUEUE = "server busy, please try again.  maximum pending requests exceeded"
ANSWER = (Delta(1, done=DONE),)


class GatedRunners(FakeRunners):
    """Runners that come up only when the gate is open, or with the errors that are scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.errors: list[Exception] = []

    async def start(self, load: Load) -> FakeRunner:
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return await super().start(load)


@asynccontextmanager
async def pooled(
    runners: FakeRunners, *, max_loaded: int = 3, max_queue: int = 512
) -> AsyncIterator[RunnerPool]:
    limits = PoolLimits(max_loaded, max_queue=max_queue)
    pool = RunnerPool(runners.start, limits, keep_alive_s=300)
    try:
        yield pool
    finally:
        await pool.close()


def spec(name: str, **changes: Any) -> RunnerSpec:
    facts = {"num_ctx": 512, "cells": 2048, "slots": 4, "batch": 128, **changes}
    return RunnerSpec(name, "digest", Load(f"/{name}.gguf", **facts))


async def use(pool: RunnerPool, asked: RunnerSpec, keep_alive_s: float | None = None) -> None:
    async with pool.lease(asked, keep_alive_s):
        pass


def names(pool: RunnerPool) -> set[str]:
    return {model.spec.name for model in pool.loaded_models}


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come about")


async def generate(front: Front, model: str, **fields: object) -> Any:
    front.runners.scripts.append(ANSWER)
    status, answer = await front.post(
        "/api/generate", {"model": model, "prompt": "x", "stream": False, **fields}
    )
    assert status == 200, answer
    return answer


async def test_5_1_two_names_of_one_blob_share_a_runner(front: Front) -> None:
    front.store.copy(Name.parse("chat"), Name.parse("twin"))
    await generate(front, "chat")
    await generate(front, "twin")
    assert len(front.runners.loads) == 1
    (row,) = (await front.get("/api/ps"))[1]["models"]
    assert row["name"] == "chat:latest", "the name that loaded it"


@pytest.mark.parametrize(
    "options", [{"num_ctx": 8000}, {"num_gpu": 3}, {"main_gpu": 1}, {"num_thread": 1},
                {"use_mmap": True}, {"num_batch": 1024}],
)  # fmt: skip
async def test_5_1_load_options_that_reload(front: Front, options: dict[str, object]) -> None:
    await generate(front, "chat", options={"num_ctx": 4096})
    await generate(front, "chat", options=options)
    assert len(front.runners.loads) == 2
    assert len(front.pool.loaded_models) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"num_gpu": -1}},
        {"options": {"temperature": 0, "seed": 3, "num_predict": 1}},
        {"options": {"num_ctx": 1000}},
        {"options": {"num_batch": 100}},
        {"options": {"draft_num_predict": 2}},
        {"shift": False},
    ],
)
async def test_5_1_what_does_not_reload(front: Front, fields: dict[str, object]) -> None:
    await generate(front, "chat")
    await generate(front, "chat", **fields)
    assert len(front.runners.loads) == 1


async def test_5_1_a_smaller_context_is_served_with_its_own_limit(front: Front) -> None:
    await generate(front, "chat", options={"num_ctx": 8192})
    await generate(front, "chat", options={"num_ctx": 700})
    await generate(front, "chat")
    assert len(front.runners.loads) == 1
    assert [submit.limits.num_ctx for submit in front.runners.submits] == [8192, 700, 0]
    (row,) = (await front.get("/api/ps"))[1]["models"]
    assert row["context_length"] == 8192


async def test_5_1_the_last_keep_alive_that_was_given_holds(front: Front) -> None:
    for given, holds in ((60, 60.0), (None, 60.0), ("2m", 120.0)):
        await generate(front, "chat", keep_alive=given)
        assert front.pool.loaded_models[0].keep_alive_s == holds


async def test_5_1_keep_alive_0_with_a_prompt_runs_and_unloads(front: Front) -> None:
    answer = await generate(front, "chat", keep_alive=0)
    assert answer["done_reason"] == "stop"
    await until(lambda: front.pool.loaded_models == [])


async def test_5_1_a_busy_model_is_unloaded_when_it_is_idle(front: Front) -> None:
    front.runners.scripts.append([Delta(1, text="Hi"), HANG])
    body = {"model": "chat", "prompt": "x"}
    async with front.client.post("/api/generate", json=body) as stream:
        assert await stream.content.readline()
        await front.post("/api/generate", {"model": "chat", "keep_alive": 0})
        assert [model.users for model in front.pool.loaded_models] == [1]
    await front.runners.cancelled.wait()
    await until(lambda: front.pool.loaded_models == [])


async def test_5_2_more_requests_than_the_queue_holds_get_503(facts_store: Path) -> None:
    async with start_front(facts_store) as front:
        gated = GatedRunners()
        front.pool._start, front.pool._limits = gated.start, PoolLimits(3, max_queue=1)
        waiting = asyncio.create_task(front.post("/api/generate", {"model": "chat"}))
        await until_real(lambda: front.pool._num_queued == 1)
        refused = await front.post("/api/generate", {"model": "thinker"})
        assert refused == (503, {"error": FULL_QUEUE})
        gated.gate.set()
        assert (await waiting)[0] == 200
        assert (await front.post("/api/generate", {"model": "chat"}))[0] == 200


async def until_real(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the request is on its way through a socket
            await asyncio.sleep(0.001)


async def test_5_2_a_loaded_model_needs_no_queue() -> None:
    runners = GatedRunners()
    async with pooled(runners, max_queue=1) as pool:
        runners.gate.set()
        await use(pool, spec("a"))
        runners.gate.clear()
        waiting = asyncio.create_task(use(pool, spec("b")))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await use(pool, spec("c"))
        await use(pool, spec("a"))
        runners.gate.set()
        await waiting


async def test_5_2_loads_go_one_at_a_time() -> None:
    runners, running, most = FakeRunners(), 0, 0

    async def start(load: Load) -> FakeRunner:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await runners.start(load)

    pool = RunnerPool(start, PoolLimits(3), keep_alive_s=300)
    await asyncio.gather(*(use(pool, spec(name)) for name in "abc"))
    assert (most, names(pool)) == (1, {"a", "b", "c"})
    await pool.close()


async def test_5_2_a_client_that_leaves_the_queue_leaves_no_lease() -> None:
    runners = GatedRunners()
    async with pooled(runners) as pool:
        waiting = asyncio.create_task(use(pool, spec("a")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        runners.gate.set()
        await until(lambda: names(pool) == {"a"})
        await until(lambda: pool.loaded_models[0].users == 0)


async def test_5_3_the_shortest_stay_goes_first() -> None:
    async with pooled(FakeRunners(), max_loaded=2) as pool:
        await use(pool, spec("long"), 900)
        await use(pool, spec("short"), 60)
        await use(pool, spec("new"))
        assert names(pool) == {"long", "new"}


async def test_5_3_a_load_that_lacks_memory_unloads_the_others_and_tries_again() -> None:
    runners = GatedRunners()
    runners.gate.set()
    async with pooled(runners) as pool:
        for name in "ab":
            await use(pool, spec(name))
        runners.errors = [LoadFailed("llama-server: cudaMalloc failed: out of memory")]
        await use(pool, spec("big"))
        assert names(pool) == {"big"}


async def test_5_3_a_second_lack_of_memory_is_told() -> None:
    runners = GatedRunners()
    runners.gate.set()
    async with pooled(runners) as pool:
        await use(pool, spec("a"))
        runners.errors = [LoadFailed("out of memory"), LoadFailed("out of memory again")]
        with pytest.raises(LoadFailed, match="again"):
            await use(pool, spec("big"))
        runners.errors = [LoadFailed("out of memory, alone")]
        with pytest.raises(LoadFailed, match="alone"):
            await use(pool, spec("big"))


async def test_5_3_another_failure_of_a_load_unloads_nobody() -> None:
    runners = GatedRunners()
    runners.gate.set()
    async with pooled(runners) as pool:
        await use(pool, spec("a"))
        runners.errors = [LoadFailed("unknown architecture")]
        with pytest.raises(LoadFailed):
            await use(pool, spec("b"))
        assert names(pool) == {"a"}


async def test_5_3_a_step_that_lacks_memory_expires_every_model(front: Front) -> None:
    await generate(front, "thinker")
    await generate(front, "chat")
    front.runners.scripts.append([DecodeFailed("llama_decode returned -2 for 4 rows")])
    status, answer = await front.post("/api/generate", {"model": "chat", "prompt": "x"})
    assert (status, "llama_decode" in answer["error"]) == (500, True)
    await until(lambda: front.pool.loaded_models == [])


async def test_5_3_another_failed_step_expires_nobody(front: Front) -> None:
    await generate(front, "chat")
    front.runners.scripts.append([DecodeFailed("llama_decode returned -3 for 4 rows")])
    await front.post("/api/generate", {"model": "chat", "prompt": "x"})
    assert len(front.pool.loaded_models) == 1


@pytest.mark.parametrize(
    ("length", "options", "num_ctx"),
    [
        (0, {}, 8192),
        (2000, {}, 2000),
        (2000, {"num_ctx": 3000}, 3000),
        (0, {"num_ctx": 1}, 4),
        (0, {"num_ctx": 10**9}, 8192),
        (10**6, {}, 8192),
    ],
)
async def test_5_4_the_context_length(
    facts_store: Path, length: int, options: dict[str, object], num_ctx: int
) -> None:
    async with start_front(facts_store, context_length=length) as front:
        await generate(front, "chat", options=options)
        (row,) = (await front.get("/api/ps"))[1]["models"]
        assert row["context_length"] == num_ctx


async def test_5_5_sizes_are_those_of_the_runner(front: Front) -> None:
    front.runners.ready = Ready(size_bytes=77, size_vram_bytes=70)
    await generate(front, "chat")
    (row,) = (await front.get("/api/ps"))[1]["models"]
    assert (row["size"], row["size_vram"]) == (77, 70)
