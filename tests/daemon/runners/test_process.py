"""One runner process as the front sees it: a real one, on a tiny model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
from engines import run_alone
from harness import load_spec, text_request
from outrider.daemon.chat.conversation import Conversation, Message
from outrider.daemon.errors import BadRequest, LoadFailed, NotFound, RunnerDied, TemplateFailed
from outrider.daemon.protocol import Delta, Embed, Load, Submit
from outrider.daemon.runners.process import DIED, RunnerProcess
from outrider.daemon.runners.response_queue import LOGPROB_BYTES, MAX_BYTES
from outrider.daemon.runners.watchdog import Patience
from tiny import write_llama
from tiny_bert import write_bert

pytestmark = pytest.mark.model

ENDLESS = 1 << 20
HANG_S = 60.0  # far above what any of this takes
ORPHAN_S = 5.0  # after which nothing of a killed front is left
STOP_S = 2.5  # in which a runner ends, whatever it does

PARENT = """
import asyncio, pathlib, sys
from outrider.daemon.runners.process import RunnerProcess
from outrider.daemon.chat.conversation import Conversation, Message
from outrider.daemon.protocol import Limits, Load, Submit

CHAT = Submit(0, Conversation((Message("user", "x"),)), limits=Limits(num_predict=1))

async def main():
    child = await RunnerProcess.start(Load(sys.argv[1], num_ctx=64, cells=256, slots=1, batch=32))
    async for _ in child.submit(CHAT):  # so that the rendering process is up
        pass
    print(child.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=1)


@asynccontextmanager
async def started(load: Load, patience: Patience | None = None) -> AsyncIterator[RunnerProcess]:
    """A child that is gone when the block is left."""
    runner = await RunnerProcess.start(load, patience=patience)
    try:
        yield runner
    finally:
        await runner.stop()
        assert not psutil.pid_exists(runner.pid)
        assert not runner.is_alive


async def collect(runner: RunnerProcess, request: Submit) -> list[Delta]:
    return [delta async for delta in runner.submit(request)]


async def text_of(runner: RunnerProcess, request: Submit) -> str:
    return "".join(delta.text for delta in await collect(runner, request))


async def kill(runner: RunnerProcess, number: signal.Signals) -> None:
    """End the process while it streams; raises what its reader is told."""
    async with aclosing(runner.submit(text_request(0, "endless", ENDLESS))) as deltas:
        await anext(deltas)
        os.kill(runner.pid, number)
        async for _ in deltas:
            pass


def children() -> set[int]:
    return {runner.pid for runner in psutil.Process().children(recursive=True)}


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def spacious(gguf: Path, **changes: int) -> Load:
    """Room enough that an endless request does not end while a test runs."""
    return load_spec(gguf, num_ctx=16384, cells=16384, **changes)


async def until(is_true: Callable[[], bool]) -> None:
    while not is_true():  # noqa: ASYNC110 - nothing tells when
        await asyncio.sleep(0.02)


async def test_requests_side_by_side_each_get_their_own_text(gguf: Path) -> None:
    requests = [text_request(0, prompt, 12) for prompt in ("one", "two words", "three and more")]
    async with started(load_spec(gguf)) as runner:
        assert runner.is_alive
        assert runner.ready.size_bytes > 0
        texts = await asyncio.gather(*(text_of(runner, request) for request in requests))
        last = (await collect(runner, requests[0]))[-1]
    assert last.done is not None
    assert (last.done.reason, last.done.eval_tokens) == ("length", 12)
    renumbered = [msgspec.structs.replace(request, id=i) for i, request in enumerate(requests)]
    assert texts == list(run_alone(load_spec(gguf), renumbered).values())


async def test_vectors_come_from_a_child_of_their_own_kind(tmp_path: Path) -> None:
    load = load_spec(write_bert(tmp_path / "bert.gguf"), cells=512, batch=512, embedding=True)
    async with started(load) as runner:
        requests = [Embed(0, ("a text", str(i)), 512) for i in range(5)]
        answers = await asyncio.gather(*(runner.embed(request) for request in requests))
        assert len({answer.vectors for answer in answers}) == 5
        assert all(len(answer.vectors) == 2 * 4 * answer.width for answer in answers)
        with pytest.raises(BadRequest, match="for embeddings"):
            await collect(runner, text_request(0, "no text here"))
        with pytest.raises(BadRequest, match="exceeds the context length"):
            await runner.embed(Embed(0, ("too long",), 4, truncate=False))


async def test_leaving_or_death_ends_a_wait_for_vectors(tmp_path: Path) -> None:
    gguf = write_bert(tmp_path / "bert.gguf")
    long = Embed(0, ("a long text " * 40,) * 2000, 512)
    async with started(load_spec(gguf, cells=512, batch=512, embedding=True)) as runner:
        leaving = asyncio.create_task(runner.embed(long))
        await asyncio.sleep(0.05)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert (await runner.embed(Embed(0, ("next",), 512))).prompt_tokens == 6
        waiting = asyncio.create_task(runner.embed(long))
        await asyncio.sleep(0.05)
        os.kill(runner.pid, signal.SIGKILL)
        with pytest.raises(RunnerDied, match="unexpectedly stopped"):
            await waiting


async def test_a_bad_request_fails_alone(gguf: Path) -> None:
    bad = msgspec.structs.replace(text_request(0, "x"), context=(10**6,))
    async with started(load_spec(gguf)) as runner:
        good = asyncio.create_task(text_of(runner, text_request(0, "good", 30)))
        with pytest.raises(BadRequest, match="context"):
            await collect(runner, bad)
        assert await good
        assert await text_of(runner, text_request(0, "after", 3))


async def test_leaving_a_stream_early_frees_its_slot(gguf: Path) -> None:
    async with started(spacious(gguf, slots=1)) as runner:
        async with aclosing(runner.submit(text_request(0, "endless", ENDLESS))) as deltas:
            async for delta in deltas:
                assert delta.done is None
                break
        async with asyncio.timeout(HANG_S):
            assert await text_of(runner, text_request(0, "next", 3))


async def test_a_cancelled_reader_frees_its_slot(gguf: Path) -> None:
    async with started(spacious(gguf, slots=1)) as runner:
        reader = asyncio.create_task(collect(runner, text_request(0, "endless", ENDLESS)))
        waiting = asyncio.create_task(collect(runner, text_request(0, "waiting", ENDLESS)))
        await asyncio.sleep(0.05)
        for task in (waiting, reader):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(HANG_S):
            assert await text_of(runner, text_request(0, "next", 3))


async def test_death_ends_every_stream_with_the_contracts_text(gguf: Path) -> None:
    async with started(spacious(gguf, slots=2)) as runner:
        readers = [
            asyncio.create_task(collect(runner, text_request(0, "endless", ENDLESS)))
            for _ in range(3)
        ]
        with pytest.raises(RunnerDied) as caught:
            await kill(runner, signal.SIGKILL)
        errors = await asyncio.gather(*readers, return_exceptions=True)
        for error in (caught.value, *errors):
            assert isinstance(error, RunnerDied)
            assert str(error).startswith(DIED)
        assert not runner.is_alive
        with pytest.raises(RunnerDied, match="unexpectedly stopped"):
            await collect(runner, text_request(0, "too late"))


async def test_an_abort_is_named_in_the_error(gguf: Path) -> None:
    async with started(spacious(gguf)) as runner:
        with pytest.raises(RunnerDied, match=f"^{DIED}: Fatal Python error: Aborted$"):
            await kill(runner, signal.SIGABRT)


async def test_stopping_ends_a_stream_that_runs(gguf: Path) -> None:
    async with started(spacious(gguf)) as runner:
        reader = asyncio.create_task(collect(runner, text_request(0, "endless", ENDLESS)))
        await asyncio.sleep(0.05)
        await asyncio.gather(runner.stop(), runner.stop())
        with pytest.raises(RunnerDied):
            await reader


async def stop_in_time(runner: RunnerProcess) -> None:
    """Stop it; neither it nor its rendering process is left, and nothing of it waits to be read."""
    family = psutil.Process(runner.pid).children(recursive=True)
    start_s = time.monotonic()
    await runner.stop()
    assert time.monotonic() - start_s < STOP_S
    assert not psutil.pid_exists(runner.pid)
    deadline_s = time.monotonic() + HANG_S
    while not all(is_gone(child.pid) for child in family):
        assert time.monotonic() < deadline_s, "a rendering process lives on without its runner"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("with_group", [False, True])
async def test_a_stopped_process_is_killed(gguf: Path, with_group: bool) -> None:
    """Also when more was sent to it than the socket holds, which it never reads."""
    runner = await RunnerProcess.start(load_spec(gguf))
    assert psutil.Process(runner.pid).children()
    (os.killpg if with_group else os.kill)(runner.pid, signal.SIGSTOP)
    reader = asyncio.create_task(collect(runner, text_request(0, "unread " * 100_000)))
    await asyncio.sleep(0)
    await stop_in_time(runner)
    with pytest.raises(RunnerDied):
        await reader


async def test_a_runner_amid_a_long_decode_ends_in_time(gguf: Path) -> None:
    runner = await RunnerProcess.start(spacious(gguf, batch=16384))
    readers = [
        asyncio.create_task(collect(runner, text_request(0, f"{i} many words " * 1000, ENDLESS)))
        for i in range(3)
    ]
    await asyncio.sleep(0.2)
    await stop_in_time(runner)
    errors = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(error, RunnerDied) for error in errors)


async def appeared_since(before: set[int]) -> set[int]:
    """The processes that have been started since then; waits for one."""
    while not (started_now := children() - before):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)
    return started_now


async def test_a_runner_amid_its_load_ends_in_time(tmp_path: Path) -> None:
    """The file is a pipe into which nobody writes, so that the load lasts."""
    os.mkfifo(tmp_path / "slow.gguf")
    before = children()
    start = asyncio.create_task(RunnerProcess.start(load_spec(tmp_path / "slow.gguf")))
    started_now = await appeared_since(before)
    await asyncio.sleep(1.0)
    start_s = time.monotonic()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert time.monotonic() - start_s < STOP_S
    assert all(is_gone(pid) for pid in started_now)
    assert children() == before


async def test_a_runner_that_is_killed_amid_its_load_is_told_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.gguf")
    before = children()
    start = asyncio.create_task(RunnerProcess.start(load_spec(tmp_path / "slow.gguf")))
    started_now = await appeared_since(before)
    for pid in started_now:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(LoadFailed, match="terminated: signal 9: the system or its user ended it"):
        await start


HASTY = Patience(least_s=1.0, factor=10.0, unknown_s=60.0, look_s=0.1)
HUNG = "gave no sign of progress for 1 s and was ended"


async def test_a_runner_that_is_stopped_amid_a_stream_is_ended(gguf: Path) -> None:
    async with started(spacious(gguf), HASTY) as runner:
        waiting = asyncio.create_task(collect(runner, text_request(0, "endless", ENDLESS)))
        await asyncio.sleep(0.3)  # its template may take longer than a step
        start_s = time.monotonic()
        with pytest.raises(RunnerDied, match=f"^{DIED}: .*{HUNG}"):
            await kill(runner, signal.SIGSTOP)
        assert time.monotonic() - start_s < 5.0
        with pytest.raises(RunnerDied, match=HUNG):
            await waiting
        assert not runner.is_alive


async def test_a_runner_that_was_stopped_while_idle_is_ended_at_the_next_request(
    gguf: Path,
) -> None:
    async with started(load_spec(gguf), HASTY) as runner:
        assert await text_of(runner, text_request(0, "before", 3))
        os.kill(runner.pid, signal.SIGSTOP)
        await asyncio.sleep(1.5)
        assert runner.is_alive
        assert runner.silent_s == runner.overdue_s == 0.0
        with pytest.raises(RunnerDied, match=HUNG):
            await collect(runner, text_request(0, "next", 3))


async def test_a_stop_of_less_than_the_bound_is_nothing(gguf: Path) -> None:
    async with (
        started(spacious(gguf), HASTY) as runner,
        aclosing(runner.submit(text_request(0, "endless", ENDLESS))) as deltas,
    ):
        await anext(deltas)
        os.kill(runner.pid, signal.SIGSTOP)
        await asyncio.sleep(0.4)
        os.kill(runner.pid, signal.SIGCONT)
        for _ in range(10):
            await anext(deltas)


async def test_long_prompts_leave_no_more_memory_each_time(
    gguf: Path, measurements: list[str]
) -> None:
    long = text_request(0, "ab cd " * 600_000, 2)
    async with started(load_spec(gguf)) as runner:
        sizes_mib = [await memory_after(runner, long) for _ in range(8)]
    measurements.append(f"runner after prompts of 3.6 MB, in MiB: {sizes_mib}")
    assert sizes_mib[-1] < max(sizes_mib[:3]) + 40


async def memory_after(runner: RunnerProcess, request: Submit) -> int:
    await collect(runner, request)
    await asyncio.sleep(0.1)  # what it gives back
    return int(psutil.Process(runner.pid).memory_info().rss) >> 20


async def test_a_long_step_is_no_hang(gguf: Path) -> None:
    """One step of 16,384 rows, several times as long as a runner may be silent without a word."""
    hasty = Patience(least_s=0.05, factor=10.0, unknown_s=60.0, look_s=0.02)
    long = msgspec.structs.replace(text_request(0, "many words " * 1400, 1))
    async with started(spacious(gguf, batch=16384), hasty) as runner:
        last = (await collect(runner, long))[-1]
        assert last.done
        assert last.done.prompt_ns > 2 * hasty.least_s * 1e9
        assert await text_of(runner, long)


async def test_a_runner_that_is_stopped_amid_its_load_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.gguf")
    before = children()
    load = load_spec(tmp_path / "slow.gguf")
    start = asyncio.create_task(RunnerProcess.start(load, stall_s=HANG_S, patience=HASTY))
    started_now = await appeared_since(before)
    await asyncio.sleep(0.5)
    assert not start.done()
    for pid in started_now:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LoadFailed, match="the process was stopped by a signal"):
        await start
    assert all(is_gone(pid) for pid in started_now)


async def test_a_front_that_stood_still_blames_nobody(gguf: Path) -> None:
    """As in a container that is paused: the runner was, too."""
    async with (
        started(spacious(gguf), HASTY) as runner,
        aclosing(runner.submit(text_request(0, "endless", ENDLESS))) as deltas,
    ):
        await anext(deltas)
        os.kill(runner.pid, signal.SIGSTOP)
        time.sleep(3.0)  # noqa: ASYNC251 - the front stands still
        os.kill(runner.pid, signal.SIGCONT)
        for _ in range(10):
            await anext(deltas)


async def test_a_cancelled_stop_goes_on(gguf: Path) -> None:
    runner = await RunnerProcess.start(load_spec(gguf))
    for _ in range(3):
        stop = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        stop.cancel()
    await runner.stop()
    assert not psutil.pid_exists(runner.pid)


@pytest.mark.parametrize("content", [b"GGUF" + bytes(100), b""])
async def test_a_file_that_cannot_be_loaded_leaves_no_process(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    before = children()
    with pytest.raises(LoadFailed, match=r"bad\.gguf"):
        await RunnerProcess.start(load_spec(path))
    assert children() == before


async def test_a_deleted_model_is_not_found_and_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(NotFound, match=r"^the model was deleted before it was loaded$"):
        await RunnerProcess.start(load_spec(tmp_path / "gone.gguf"))
    assert children() == before


async def test_a_broken_chat_template_fails_chats_and_leaves_raw_prompts(tmp_path: Path) -> None:
    gguf = write_llama(tmp_path / "tiny.gguf", template="{% if %}")
    chat = Submit(0, Conversation((Message("user", "x"),)))
    async with started(load_spec(gguf)) as runner:
        with pytest.raises(TemplateFailed, match="chat template cannot be read"):
            await collect(runner, chat)
        assert await text_of(runner, text_request(0, "raw", 3))


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.01])
async def test_a_start_that_is_cancelled_leaves_no_process(gguf: Path, delay_s: float) -> None:
    before = children()
    start = asyncio.create_task(RunnerProcess.start(load_spec(gguf)))
    await asyncio.sleep(delay_s)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert children() == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stopped runner stays")
@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGSTOP])
def test_no_process_outlives_the_front(gguf: Path, number: signal.Signals) -> None:
    """Neither a runner nor its rendering process, stopped or not."""
    command = [sys.executable, "-c", PARENT, str(gguf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout
        pid = int(front.stdout.readline())
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert len(family) == 2
        for each in family:
            os.kill(each, number)
        front.kill()
    deadline_s = time.monotonic() + ORPHAN_S
    while not all(map(is_gone, family)):
        assert time.monotonic() < deadline_s, "a process lives on without the front"
        time.sleep(0.01)


async def test_a_load_without_progress_is_given_up(gguf: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    text = "^timed out waiting for llama-server to start - "
    with pytest.raises(LoadFailed, match=text):
        await RunnerProcess.start(load_spec(gguf), stall_s=0.001)
    assert {child.pid for child in psutil.Process().children()} == before


async def test_slow_readers_leave_their_slots_and_the_front_buffers_little(gguf: Path) -> None:
    """Eight streams that nobody reads pause, and a short request does not wait for them."""
    async with started(spacious(gguf)) as runner, contextlib.AsyncExitStack() as stack:
        slow = []
        for number in range(8):
            # Logprobs make the deltas large, so that the bound is soon reached.
            request = text_request(0, f"slow {number}", ENDLESS, num_logprobs=1)
            slow.append(await stack.enter_async_context(aclosing(runner.submit(request))))
        async with asyncio.timeout(HANG_S):
            await asyncio.gather(*(anext(deltas) for deltas in slow))  # although it has four slots
            await until(lambda: all(inbox.is_held for inbox in runner._inboxes.values()))
            assert await text_of(runner, text_request(0, "quick", 8))
            assert all(inbox._num_bytes < 2 * MAX_BYTES for inbox in runner._inboxes.values())
            assert runner.silent_s == 0.0
            num_logprobs = 0
            while num_logprobs < 2 * MAX_BYTES // LOGPROB_BYTES:  # what was not yet made, too
                num_logprobs += len((await anext(slow[0])).logprobs)
