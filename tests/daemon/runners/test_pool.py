"""The pool: loads, leases, expiry and eviction, with real runners on tiny models."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
from harness import load_spec, text_request
from outrider.daemon.errors import Busy, LoadFailed, RunnerDied
from outrider.daemon.protocol import Embed
from outrider.daemon.runners.loaded_model import RunnerSpec
from outrider.daemon.runners.pool import PoolLimits, RunnerPool
from outrider.daemon.runners.process import RunnerProcess
from tiny import write_llama

pytestmark = pytest.mark.model

ENDLESS = 1 << 20
HANG_S = 60.0  # far above what any of this takes


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("gguf")
    return [write_llama(folder / f"tiny{seed}.gguf", seed=seed) for seed in range(2)]


@pytest.fixture
def first(ggufs: list[Path]) -> RunnerSpec:
    return want(ggufs[0])


@pytest.fixture
def second(ggufs: list[Path]) -> RunnerSpec:
    return want(ggufs[1])


def want(gguf: Path, **changes: int) -> RunnerSpec:
    return RunnerSpec(gguf.stem, "digest", load_spec(gguf, **changes))


def children() -> set[int]:
    """Our own: those of daemons that other tests have started end when they like."""
    return {runner.pid for runner in psutil.Process().children()}


@asynccontextmanager
async def opened(
    *, max_loaded: int = 3, keep_alive_s: float = 300.0, max_queue: int = 512
) -> AsyncIterator[RunnerPool]:
    """A pool that leaves no process behind."""
    before = children()
    limits = PoolLimits(max_loaded, max_queue=max_queue)
    pool = RunnerPool(RunnerProcess.start, limits, keep_alive_s=keep_alive_s)
    try:
        yield pool
    finally:
        await pool.close()
    assert children() == before
    assert pool.loaded_models == []


async def use(pool: RunnerPool, spec: RunnerSpec, keep_alive_s: float | None = None) -> int:
    """Lease, ask for three tokens, release; the pid of the runner that answered."""
    async with pool.lease(spec, keep_alive_s) as runner:
        deltas = [delta async for delta in runner.submit(text_request(0, "hello", 3))]
        assert deltas[-1].done
        return runner.pid


async def kill(runner: RunnerProcess) -> None:
    """End the process while it streams; raises what its reader is told."""
    async with aclosing(runner.submit(text_request(0, "endless", ENDLESS))) as deltas:
        await anext(deltas)
        os.kill(runner.pid, signal.SIGKILL)
        async for _ in deltas:
            pass


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not holds():  # noqa: ASYNC110 - processes come and go without telling
            await asyncio.sleep(0.005)


def names(pool: RunnerPool) -> list[str]:
    return [loaded.spec.name for loaded in pool.loaded_models]


async def test_clients_that_come_together_share_one_runner(first: RunnerSpec) -> None:
    async with opened() as pool:
        pids = await asyncio.gather(*(use(pool, first) for _ in range(5)))
        assert len(set(pids)) == 1
        assert names(pool) == ["tiny0"]
        assert await use(pool, first) == pids[0]
        async with pool.lease(first, None) as one, pool.lease(first, None) as two:
            assert one is two
            assert pool.loaded_models[0].users == 2
        assert pool.loaded_models[0].users == 0


async def test_two_models_stay_side_by_side(first: RunnerSpec, second: RunnerSpec) -> None:
    async with opened() as pool:
        pids = await asyncio.gather(use(pool, first, 500.0), use(pool, second, math.inf))
        assert pids[0] != pids[1]
        assert names(pool) == ["tiny1", "tiny0"], "the one that stays longest comes first"
        assert pool.loaded_models[0].expires_in_s == math.inf
        assert 0 < pool.loaded_models[1].expires_in_s <= 500.0


async def test_a_model_is_there_for_text_and_for_embeddings_until_both_go(
    first: RunnerSpec,
) -> None:
    vectors = RunnerSpec(
        first.name, first.digest, msgspec.structs.replace(first.load, embedding=True)
    )
    async with opened() as pool:
        writer = await use(pool, first)
        async with pool.lease(vectors, None) as embedder:
            embedded = await embedder.embed(Embed(0, ("hello", "you"), 512))
            assert len(embedded.vectors) == 2 * 4 * embedded.width
        assert await use(pool, first) == writer != embedder.pid
        assert names(pool) == ["tiny0", "tiny0"]
        await pool.unload(first.load.model)
        await until(lambda: not psutil.pid_exists(writer) and not psutil.pid_exists(embedder.pid))
        assert names(pool) == []


async def test_an_idle_model_goes_when_its_time_is_over(first: RunnerSpec) -> None:
    async with opened(keep_alive_s=0.05) as pool:
        async with pool.lease(first, None) as runner:
            await asyncio.sleep(0.15)
            assert runner.is_alive, "no clock runs while somebody uses it"
            assert pool.loaded_models[0].expires_in_s == 0.05
        assert runner.is_alive
        await until(lambda: not psutil.pid_exists(runner.pid))
        assert names(pool) == []


async def test_keep_alive_0_lets_a_model_go_after_its_last_user(first: RunnerSpec) -> None:
    async with opened() as pool:
        async with pool.lease(first, None) as runner, pool.lease(first, 0.0):
            pass
        await until(lambda: not psutil.pid_exists(runner.pid))
        assert await use(pool, first) != runner.pid


async def test_the_last_keep_alive_that_was_given_holds(first: RunnerSpec) -> None:
    async with opened(keep_alive_s=300.0) as pool:
        for given, holds in ((None, 300.0), (60.0, 60.0), (None, 60.0), (math.inf, math.inf)):
            await use(pool, first, given)
            assert pool.loaded_models[0].keep_alive_s == holds


async def test_an_idle_model_is_unloaded_at_once(first: RunnerSpec) -> None:
    async with opened() as pool:
        pid = await use(pool, first)
        await pool.unload("/no/such/model")
        assert names(pool) == ["tiny0"]
        await pool.unload(first.load.model)
        await until(lambda: not psutil.pid_exists(pid))
        assert names(pool) == []
        await pool.unload(first.load.model)


async def test_a_busy_model_is_unloaded_after_its_request(first: RunnerSpec) -> None:
    async with opened() as pool:
        async with pool.lease(first, None) as runner:
            await pool.unload(first.load.model)
            deltas = [delta async for delta in runner.submit(text_request(0, "still here", 40))]
            assert deltas[-1].done
            assert deltas[-1].done.eval_tokens == 40
        await until(lambda: not psutil.pid_exists(runner.pid))


async def test_a_full_pool_lets_the_idle_one_go_first(
    first: RunnerSpec, second: RunnerSpec
) -> None:
    async with opened(max_loaded=1) as pool:
        pid = await use(pool, first)
        async with pool.lease(second, None):
            assert not psutil.pid_exists(pid), "there are never two at a time"
            assert names(pool) == ["tiny1"]


async def test_a_full_pool_waits_for_a_busy_one(first: RunnerSpec, second: RunnerSpec) -> None:
    async with opened(max_loaded=1) as pool:
        async with pool.lease(first, None) as runner:
            waiting = asyncio.create_task(use(pool, second))
            await asyncio.sleep(0.05)
            deltas = [delta async for delta in runner.submit(text_request(0, "undisturbed", 40))]
            assert deltas[-1].done
            assert not waiting.done()
            assert names(pool) == ["tiny0"]
        await waiting
        assert not psutil.pid_exists(runner.pid)
        assert names(pool) == ["tiny1"]


async def test_the_place_of_one_that_leaves_is_free_only_when_it_is_gone(
    first: RunnerSpec, second: RunnerSpec
) -> None:
    async with opened(max_loaded=1) as pool:
        pid = await use(pool, first, 0.0)
        async with pool.lease(second, None):
            assert not psutil.pid_exists(pid)


async def test_clients_with_other_contexts_take_turns_without_a_reload(ggufs: list[Path]) -> None:
    short, long = want(ggufs[0], num_ctx=256), want(ggufs[0], num_ctx=512)
    async with opened() as pool:
        pid = await use(pool, long)
        for spec in (short, long, short):
            assert await use(pool, spec) == pid
        assert [loaded.spec.load.num_ctx for loaded in pool.loaded_models] == [512]


async def test_a_longer_context_reloads_after_the_users_are_done(ggufs: list[Path]) -> None:
    short, long = want(ggufs[0], num_ctx=256), want(ggufs[0], num_ctx=512)
    async with opened() as pool:
        await use(pool, short)
        async with pool.lease(short, None) as runner:
            waiting = [asyncio.create_task(use(pool, long)) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            assert runner.is_alive
        pids = await asyncio.gather(*waiting)
        assert pids[0] == pids[1] != runner.pid
        assert not psutil.pid_exists(runner.pid)
        assert [loaded.spec.load.num_ctx for loaded in pool.loaded_models] == [512]


async def test_a_client_that_leaves_during_a_load_breaks_nothing(first: RunnerSpec) -> None:
    async with opened() as pool:
        before = children()
        leaving = asyncio.create_task(use(pool, first))
        await until(lambda: children() != before)
        loading = children() - before
        staying = asyncio.create_task(use(pool, first))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        pid = await staying
        assert {pid} == loading, "what was loaded half is not thrown away"
        assert pool.loaded_models[0].users == 0
        assert await use(pool, first) == pid


async def test_a_load_that_nobody_waits_for_any_more_starts_its_clock(first: RunnerSpec) -> None:
    async with opened(keep_alive_s=0.05) as pool:
        before = children()
        leaving = asyncio.create_task(use(pool, first))
        await until(lambda: children() != before)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await until(lambda: children() == before)
        await until(lambda: names(pool) == [])


async def test_a_runner_that_died_idle_is_replaced(first: RunnerSpec) -> None:
    async with opened() as pool:
        pid = await use(pool, first)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: names(pool) == [])
        assert await use(pool, first) != pid
        assert names(pool) == ["tiny0"]


async def test_a_runner_that_died_under_its_users_is_replaced(first: RunnerSpec) -> None:
    async with opened() as pool:
        async with AsyncExitStack() as stack:
            runner = await stack.enter_async_context(pool.lease(first, None))
            await stack.enter_async_context(pool.lease(first, None))
            with pytest.raises(RunnerDied):
                await kill(runner)
            replacement = asyncio.create_task(use(pool, first))
            await asyncio.sleep(0.02)
        assert await replacement != runner.pid


async def test_too_many_that_wait_are_refused(ggufs: list[Path]) -> None:
    first, second = map(want, ggufs)
    async with opened(max_queue=2) as pool:
        queued = [asyncio.create_task(use(pool, spec)) for spec in (first, second)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as caught:
            await use(pool, first)
        assert str(caught.value) == (
            "server busy, please try again.  maximum pending requests exceeded"
        )
        await asyncio.gather(*queued)
        await use(pool, want(ggufs[1], threads=2))  # there is room in the queue again


async def test_a_model_that_cannot_be_loaded_leaves_nothing(
    first: RunnerSpec, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    async with opened() as pool:
        before = children()
        for _ in range(2):
            with pytest.raises(LoadFailed, match=r"broken\.gguf"):
                await use(pool, want(broken))
        assert children() == before
        assert names(pool) == []
        await use(pool, first)


async def test_close_ends_busy_runners(first: RunnerSpec, second: RunnerSpec) -> None:
    async with opened() as pool:
        leases = AsyncExitStack()
        busy = await leases.enter_async_context(pool.lease(first, None))
        idle = await use(pool, second)
        async with aclosing(busy.submit(text_request(0, "endless", ENDLESS))) as deltas:
            await anext(deltas)
            await pool.close()
        assert not psutil.pid_exists(busy.pid)
        assert not psutil.pid_exists(idle)
        await leases.aclose()


@pytest.mark.parametrize("has_begun", [False, True])
async def test_close_ends_a_load(first: RunnerSpec, has_begun: bool) -> None:
    async with opened() as pool:
        before = children()
        loading = asyncio.create_task(use(pool, first))
        await asyncio.sleep(0)
        await until(lambda: not has_begun or children() != before)
        await pool.close()
        with pytest.raises(asyncio.CancelledError):
            await loading


async def test_close_waits_for_one_that_leaves(first: RunnerSpec) -> None:
    async with opened() as pool:
        pid = await use(pool, first, 0.0)
        await asyncio.sleep(0)
        await pool.close()
        assert not psutil.pid_exists(pid)
