"""Many streams at once from one runner: the text of each, and the effect of a disconnect."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from daemons import Daemon, Json, start_daemon
from outrider.daemon.protocol import Load
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.loading import LoadedContext, load_model
from outrider.models.store import Store

pytestmark = pytest.mark.contract

SMOL = "smollm2:135m"
# A last-bit difference grows where activations are quantised for the Q4_1 kernels: the same tokens
# in another batch were seen to move a logit by up to 0.52.
NEAR_TIE = 0.6
# The goal is 0.2 s, and the printed figures tell; a slot that is not freed at all takes 20 s.
FREED_S = 1.0
TOPICS = ("the sea", "a fox", "iron", "bread", "the moon", "chess", "rain", "a violin")
PROMPTS = [f"Write two sentences about {topic}." for topic in TOPICS]


def body(model: str, prompt: str, **options: object) -> Json:
    return {
        "model": model,
        "prompt": prompt,
        "options": {"temperature": 0, "num_predict": 32, **options},
    }


async def stream(session: aiohttp.ClientSession, request: Json) -> AsyncIterator[Json]:
    async with session.post("/api/generate", json=request) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            yield json.loads(line)


async def tokens(session: aiohttp.ClientSession, request: Json) -> list[int]:
    """Prompt and answer as token ids."""
    return [line async for line in stream(session, request)][-1]["context"]  # type: ignore[no-any-return]


async def ask_alone_and_together(daemon: Daemon, model: str) -> list[tuple[list[int], list[int]]]:
    requests = [body(model, prompt) for prompt in PROMPTS]
    async with aiohttp.ClientSession(daemon.url) as session:
        alone = [await tokens(session, request) for request in requests]
        together = await asyncio.gather(*(tokens(session, request) for request in requests))
    return list(zip(alone, together, strict=True))


@pytest.fixture(scope="module")
def exact_daemon(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Eight slots and an F32 cache: on F32 weights nothing is rounded on the way."""
    env = {"OUTRIDER_NUM_PARALLEL": "8", "OUTRIDER_KV_CACHE_TYPE": "f32"}
    with start_daemon(store_root, tmp_path_factory.mktemp("exact"), env=env) as running:
        yield running


@pytest.fixture(scope="module")
def wide_daemon(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Eight slots, everything else as a user has it."""
    env = {"OUTRIDER_NUM_PARALLEL": "8"}
    with start_daemon(store_root, tmp_path_factory.mktemp("wide"), env=env) as running:
        yield running


@pytest.fixture(scope="module")
def lone_daemon(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A single slot: a second request waits for it."""
    env = {"OUTRIDER_NUM_PARALLEL": "1"}
    with start_daemon(store_root, tmp_path_factory.mktemp("lone"), env=env) as running:
        yield running


async def test_eight_chats_stream_at_the_same_time_from_one_runner(exact_daemon: Daemon) -> None:
    spans: list[tuple[float, float]] = []

    async def talk(session: aiohttp.ClientSession, prompt: str) -> None:
        times = [
            time.monotonic() async for _ in stream(session, body("tiny", prompt, num_predict=1024))
        ]
        assert len(times) > 2, "the text comes in pieces"
        spans.append((times[0], times[-1]))

    async with aiohttp.ClientSession(exact_daemon.url) as session:
        await asyncio.gather(*(talk(session, prompt) for prompt in PROMPTS))
    assert max(start for start, _ in spans) < min(end for _, end in spans), "all overlap"
    assert len(exact_daemon.runners()) == 1


async def test_on_f32_each_of_eight_chats_is_exactly_what_it_is_alone(
    exact_daemon: Daemon,
) -> None:
    pairs = await ask_alone_and_together(exact_daemon, "tiny")
    assert all(alone == together for alone, together in pairs)
    assert len({tuple(alone) for alone, _ in pairs}) == len(PROMPTS)


async def test_on_quantised_weights_a_difference_begins_at_a_near_tie(
    wide_daemon: Daemon, store_root: Path, measurements: list[str]
) -> None:
    pairs = await ask_alone_and_together(wide_daemon, SMOL)
    weights = Store(store_root).resolve(SMOL).model_path
    loaded = load_model(
        Load(str(weights), num_ctx=512, cells=512, slots=1, batch=512, threads=2), lambda _: None
    )
    gaps = [gap for pair in pairs if (gap := gap_at_difference(loaded, *pair)) is not None]
    loaded.context.close()
    loaded.model.close()
    shown = ", ".join(f"{gap:.3f}" for gap in gaps) or "none"
    measurements.append(
        f"8 chats at once against alone, Q4_1: {len(pairs) - len(gaps)} identical; "
        f"gap of the two best logits where the others part: {shown}"
    )
    assert all(gap < NEAR_TIE for gap in gaps), gaps


def gap_at_difference(
    loaded: LoadedContext, first: Sequence[int], second: Sequence[int]
) -> float | None:
    """Best logit less that of the worse choice, where two answers part; None if they do not."""
    length = min(len(first), len(second))
    at = next((i for i in range(length) if first[i] != second[i]), None)
    if at is None:
        return None
    rows = Batch(512)
    rows.add(0, 0, first[:at], outputs=1)
    loaded.context.clear(0)
    assert loaded.context.decode(rows) == 0
    logits = np.array(loaded.context.logits(at - 1))
    return float(logits.max() - min(logits[first[at]], logits[second[at]]))


async def test_a_client_that_leaves_frees_its_slot_within_200_ms(
    lone_daemon: Daemon, measurements: list[str]
) -> None:
    async with aiohttp.ClientSession(lone_daemon.url) as session:
        alone_s = await time_to_first_line(session)
        async with aclosing(stream(session, body("tiny", "endless", num_predict=-1))) as lines:  # type: ignore[type-var]
            for _ in range(5):
                await anext(lines)
        after_s = await time_to_first_line(session)
    measurements.append(
        f"first token with a free slot: {alone_s * 1000:.0f} ms; "
        f"after the slot's client left: {after_s * 1000:.0f} ms"
    )
    assert after_s < alone_s + FREED_S


async def test_a_client_that_leaves_during_a_long_prompt_frees_its_slot(
    lone_daemon: Daemon, measurements: list[str]
) -> None:
    long = body(SMOL, "word " * 3500)
    async with aiohttp.ClientSession(lone_daemon.url) as session:
        await time_to_first_line(session, SMOL)
        alone_s = await time_to_first_line(session, SMOL)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tokens(session, long), 0.5)
        after_s = await time_to_first_line(session, SMOL)
    measurements.append(
        f"the same on {SMOL} during a 3,500-token prompt: {alone_s * 1000:.0f} ms; "
        f"{after_s * 1000:.0f} ms"
    )
    assert after_s < alone_s + FREED_S


async def time_to_first_line(session: aiohttp.ClientSession, model: str = "tiny") -> float:
    start_s = time.monotonic()
    async with aclosing(stream(session, body(model, "short"))) as lines:  # type: ignore[type-var]
        await anext(lines)
        took_s = time.monotonic() - start_s
        async for _ in lines:
            pass
    return took_s


async def test_a_killed_runner_ends_its_streams_with_an_error_and_comes_back(
    daemon: Daemon,
) -> None:
    endless = body("tiny", "endless", num_predict=-1)
    async with aiohttp.ClientSession(daemon.url) as session:
        await tokens(session, body("tiny", "warm up"))
        before = {runner.pid for runner in daemon.runners()}
        lines = stream(session, endless)
        await anext(lines)
        for runner in daemon.runners():
            runner.send_signal(signal.SIGKILL)
        *_, last = [line async for line in lines]
        assert last["error"].startswith("model runner has unexpectedly stopped")
        assert "done" not in last
        assert len(await tokens(session, body("tiny", "and again"))) > 32
    assert daemon.process.poll() is None
    assert not before & {runner.pid for runner in daemon.runners()}


def test_no_runner_outlives_its_daemon(
    store_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with start_daemon(store_root, tmp_path_factory.mktemp("mortal")) as mortal:
        mortal.post("/api/generate", {"model": "tiny"})
        (runner,) = mortal.runners()
    assert not runner.is_running()
