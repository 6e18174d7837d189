"""Several models in less memory than all of them need: who goes, who stays, and who waits?

The models are tiny, with a KV cache of a size that a test chooses, so that two of five fit.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from daemons import Daemon, Json, start_daemon
from tiny import write_llama
from tiny_bert import write_bert
from weights import import_gguf

pytestmark = pytest.mark.contract

NAMES = ("ash", "beech", "cedar", "elm", "fir")
VECTORS = "moss"
HUGE = "giant"
CONTEXT = 16384  # tokens of context of each model
ROOMY = 3 * CONTEXT // 2  # tokens of context with which no two models fit
# One row of the cache of a layer is 16 heads of 16 numbers, in f32, for keys and for values.
SHAPE = {"layers": 4, "embd": 256, "heads": 16, "heads_kv": 16, "context": ROOMY}
HANG_S = 120.0  # far above what any of this takes
LONG = 1500  # tokens of an answer during which others come and go
ENDLESS = CONTEXT // 2  # tokens of an answer that nobody reads to its end
EVICTIONS = "outrider_evictions_total{"
SHORT = 12  # tokens of the other answers


@dataclass(frozen=True)
class Forest:
    """A daemon in which two models fit, and what each model says when it is alone."""

    daemon: Daemon
    answers: dict[str, str]  # of SHORT tokens
    limit_bytes: int


def body(model: str, num_predict: int = SHORT, num_ctx: int = CONTEXT, **fields: object) -> Json:
    options = {"temperature": 0, "seed": 1, "num_predict": num_predict, "num_ctx": num_ctx}
    options |= {"num_batch": 32}  # small compute buffers: the cache is what takes memory
    return {"model": model, "prompt": f"I am {model}", "raw": True, "options": options, **fields}


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forest]:
    root, folder = tmp_path_factory.mktemp("forest"), tmp_path_factory.mktemp("gguf")
    for seed, name in enumerate(NAMES):
        import_gguf(root, name, write_llama(folder / f"{name}.gguf", seed=seed, **SHAPE))  # type: ignore[arg-type]
    import_gguf(root, VECTORS, write_bert(folder / "moss.gguf"))
    wide = {**SHAPE, "seed": 9, "context": CONTEXT << 6}
    import_gguf(root, HUGE, write_llama(folder / "giant.gguf", **wide))  # type: ignore[arg-type]
    env = {
        "OUTRIDER_NUM_PARALLEL": "1",
        "OUTRIDER_MAX_LOADED_MODELS": "9",
        # On F32 weights and without drafts nothing is rounded, so that a long text repeats itself.
        "OUTRIDER_KV_CACHE_TYPE": "f32",
        "OUTRIDER_SPECULATION": "off",
    }
    with start_daemon(root, tmp_path_factory.mktemp("alone"), env=env) as alone:
        answers = {}
        for name in NAMES:
            status, answer = alone.post("/api/generate", body(name, stream=False))
            assert status == 200, answer
            answers[name] = answer["response"]
        assert len(set(answers.values())) == len(NAMES)
        rows = alone.get("/api/ps")[1]["models"]
        assert len(rows) == len(NAMES)
        sizes = [max(row["size"], row["memory"]["planned_bytes"]) for row in rows]
    limit_bytes = 5 * max(sizes) // 2
    env |= {"OUTRIDER_MEMORY_LIMIT": str(limit_bytes)}
    with start_daemon(root, tmp_path_factory.mktemp("limited"), env=env) as limited:
        yield Forest(limited, answers, limit_bytes)


@pytest.fixture(autouse=True)
def _empty(forest: Forest) -> None:
    """No model is loaded when a test begins."""
    for row in forest.daemon.get("/api/ps")[1]["models"]:
        forest.daemon.post("/api/generate", {"model": row["name"], "keep_alive": 0})
    deadline_s = time.monotonic() + HANG_S
    while forest.daemon.get("/api/ps")[1]["models"]:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@asynccontextmanager
async def session(forest: Forest) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        asyncio.timeout(HANG_S),
        aiohttp.ClientSession(forest.daemon.url) as opened,
    ):
        yield opened


async def ask(
    client: aiohttp.ClientSession, model: str, num_predict: int = SHORT, num_ctx: int = CONTEXT
) -> str:
    asked = body(model, num_predict, num_ctx, stream=False)
    async with client.post("/api/generate", json=asked) as answer:
        got = await answer.json()
        assert answer.status == 200, got
        return str(got["response"])


async def loaded(client: aiohttp.ClientSession) -> dict[str, int]:
    """The loaded models and their measured bytes."""
    async with client.get("/api/ps") as answer:
        rows = (await answer.json())["models"]
    return {row["name"].removesuffix(":latest"): row["size"] for row in rows}


class Telling:
    """A streamed answer that is read beside other requests."""

    def __init__(self, client: aiohttp.ClientSession, model: str, num_predict: int = LONG) -> None:
        self._client, self._body = client, body(model, num_predict)
        self.started = asyncio.Event()
        self.text = ""
        self.last: Json = {}

    async def read(self) -> None:
        async with self._client.post("/api/generate", json=self._body) as answer:
            assert answer.status == 200
            async for line in answer.content:
                self.last = json.loads(line)
                assert "error" not in self.last
                self.text += self.last["response"]
                self.started.set()


async def test_idle_models_go_first(forest: Forest) -> None:
    async with session(forest) as client:
        assert await ask(client, "ash") == forest.answers["ash"]
        telling = Telling(client, "beech", ENDLESS)
        reading = asyncio.create_task(telling.read())
        await telling.started.wait()
        assert await ask(client, "cedar") == forest.answers["cedar"]
        assert not reading.done(), "the answer was too short to be in the way"
        assert set(await loaded(client)) == {"beech", "cedar"}
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_busy_model_finishes_its_streams_before_it_goes(forest: Forest) -> None:
    async with session(forest) as client:
        whole = await ask(client, "ash", LONG)
        tellings = [Telling(client, name) for name in ("ash", "beech")]
        readings = [asyncio.create_task(telling.read()) for telling in tellings]
        await asyncio.gather(*(telling.started.wait() for telling in tellings))
        assert not any(reading.done() for reading in readings)
        assert await ask(client, "cedar") == forest.answers["cedar"]
        assert any(reading.done() for reading in readings), "nothing was waited for"
        await asyncio.gather(*readings)
        assert "cedar" in await loaded(client)
    assert [telling.last["done_reason"] for telling in tellings] == ["length", "length"]
    assert tellings[0].text == whole
    assert all(telling.text.startswith(forest.answers[name]) for telling, name in
               zip(tellings, ("ash", "beech"), strict=True))  # fmt: skip


async def test_what_cannot_fit_is_refused_at_once_and_nothing_goes_for_it(forest: Forest) -> None:
    async with session(forest) as client:
        await ask(client, "ash")
        before, start_s = await loaded(client), time.monotonic()
        asked = body(HUGE, num_ctx=CONTEXT << 6, stream=False)
        async with client.post("/api/generate", json=asked) as answer:
            took_s, refused = time.monotonic() - start_s, await answer.json()
        assert answer.status == 500
        assert await loaded(client) == before
    assert took_s < 2
    assert HUGE in refused["error"]
    assert "iB" in refused["error"]


async def evictions(client: aiohttp.ClientSession) -> float:
    """How often models were unloaded for others."""
    lines = (await (await client.get("/metrics")).text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(EVICTIONS))


async def test_two_clients_take_turns_with_models_that_do_not_fit_together(forest: Forest) -> None:
    async def talk(client: aiohttp.ClientSession, name: str) -> None:
        for _ in range(4):
            assert await ask(client, name, num_ctx=ROOMY) == forest.answers[name]
            assert len(await loaded(client)) <= 1

    async with session(forest) as client:
        before = await evictions(client)
        await asyncio.gather(talk(client, "ash"), talk(client, "beech"))
        assert await evictions(client) > before


async def test_a_constant_stream_of_requests_starves_nobody(forest: Forest) -> None:
    """Two models are never idle, since their next request comes before the last one ends."""
    ended = asyncio.Event()

    async def keep_busy(client: aiohttp.ClientSession, name: str) -> None:
        while not ended.is_set():
            await ask(client, name, 40)

    async with session(forest) as client:
        names = ("ash", "ash", "beech", "beech")
        crowd = [asyncio.create_task(keep_busy(client, name)) for name in names]
        await asyncio.sleep(1.0)
        for name in ("cedar", "elm"):
            assert await ask(client, name) == forest.answers[name]
        ended.set()
        await asyncio.gather(*crowd)


async def test_vectors_beside_a_chat_model(forest: Forest) -> None:
    async def vector(client: aiohttp.ClientSession) -> list[float]:
        asked = {"model": VECTORS, "input": "green"}
        async with client.post("/api/embed", json=asked) as answer:
            got = await answer.json()
            assert answer.status == 200, got
            return list(got["embeddings"][0])

    async with session(forest) as client:
        alone = await vector(client)
        telling = Telling(client, "ash")
        reading = asyncio.create_task(telling.read())
        await telling.started.wait()
        assert await vector(client) == alone
        assert set(await loaded(client)) == {"ash", VECTORS}
        await reading
    assert telling.last["eval_count"] == LONG


async def test_many_requests_for_five_models_stay_within_the_budget(forest: Forest) -> None:
    draws = random.Random(20)
    most, most_models, ended = 0, 0, asyncio.Event()

    async def watch(client: aiohttp.ClientSession) -> None:
        nonlocal most, most_models
        while not ended.is_set():
            sizes = await loaded(client)
            most, most_models = max(most, sum(sizes.values())), max(most_models, len(sizes))
            await asyncio.sleep(0.02)

    async with session(forest) as client:
        watching = asyncio.create_task(watch(client))
        names = [draws.choice(NAMES) for _ in range(20)]
        answers = await asyncio.gather(*(ask(client, name) for name in names))
        ended.set()
        await watching
    assert answers == [forest.answers[name] for name in names]
    assert 0 < most <= forest.limit_bytes
    assert most_models == 2
