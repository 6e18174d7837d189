"""/metrics: is every figure there, and does it follow from what was asked?"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_runner import HANG
from front import Front, fill_store, start_front
from outrider.daemon.errors import LoadFailed, RenderingKilled, RunnerDied
from outrider.daemon.metrics.catalogue import CATALOGUE, COUNTER
from outrider.daemon.protocol import Delta, DeviceBytes, Done, DrafterStats, Ready, Stats
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

pytestmark = pytest.mark.unit

ASK = {"model": "chat", "prompt": "hm", "stream": False}
DONE = Done("stop", prompt_tokens=5, cached_tokens=2, queue_ns=3_000_000, eval_tokens=4)
ANSWER = (Delta(1, "yes"), Delta(1, done=DONE))
NGRAM = DrafterStats(
    "ngram", drafts=2, drafted=8, accepted=6, took_ns=2_000_000_000, plain_ns=3_000_000_000
)
STATS = Stats(
    steps=9,
    prompt_tokens=3,
    cached_tokens=2,
    decoded_tokens=4,
    slots_busy=1,
    gap_counts=(0, 0, 3, *[0] * 13),
    gap_ns=24_000_000,
    drafters=(NGRAM,),
)
KEY = {"Authorization": "Bearer secret-phone"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    return fill_store(folder / "store", folder)


@pytest.fixture
async def front(store: Path) -> AsyncIterator[Front]:
    async with start_front(store, api_key=SecretStr("phone:secret-phone")) as running:
        running.runners.stats = STATS
        running.runners.ready = Ready(
            1000, 400, devices=(DeviceBytes("CUDA0", is_gpu=True, weights_bytes=400),)
        )
        yield running


async def ask(front: Front, method: str, path: str, body: object = None) -> int:
    data = None if body is None else json.dumps(body).encode()
    async with front.client.request(method, path, data=data, headers=KEY) as answer:
        await answer.read()
        return answer.status


async def scrape(front: Front) -> Samples:
    """All samples, which a second parser of the format has read."""
    async with front.client.get("/metrics", headers=KEY) as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"outrider_{name}", frozenset(labels.items())), 0.0)


async def scenario(front: Front) -> None:
    """Three texts, an error, a request for a model that is not there, and one for no route."""
    for _ in range(3):
        front.runners.scripts.append(ANSWER)
        assert await ask(front, "POST", "/api/generate", ASK) == 200
    front.runners.scripts.append((RunnerDied("gone"),))
    assert await ask(front, "POST", "/api/generate", ASK) == 500
    front.runners.scripts.append((RenderingKilled("too slow"),))
    assert await ask(front, "POST", "/api/generate", ASK) == 400
    assert await ask(front, "POST", "/api/generate", {"model": "nobody"}) == 404
    assert await ask(front, "GET", "/v1/models/chat") == 200
    assert await ask(front, "GET", "/wp-admin/1") == 404
    assert await ask(front, "PROPFIND", "/") == 405
    logging.getLogger("outrider").warning("careful")


async def test_known_requests_give_known_figures(front: Front) -> None:
    state = front.state
    with state.metrics.log_counter.attached():
        await scenario(front)
    found = await scrape(front)
    chat = {"model": "chat:latest"}
    post = {"route": "/api/generate", "method": "POST", "key": "phone"}
    assert figure(found, "http_requests_total", **post, status="200") == 3
    assert figure(found, "http_requests_total", **post, status="500") == 1
    assert figure(found, "http_requests_total", **post, status="400") == 1
    assert figure(found, "http_requests_total", **post, status="404") == 1
    get = {"method": "GET", "key": "phone"}
    assert figure(found, "http_requests_total", route="/v1/models/{id}", status="200", **get) == 1
    assert figure(found, "http_requests_total", route="unmatched", status="404", **get) == 1
    other = {"route": "unmatched", "method": "other", "key": "phone"}
    assert figure(found, "http_requests_total", **other, status="405") == 1
    assert figure(found, "http_request_seconds_count", route="/api/generate") == 6
    assert figure(found, "http_requests_running") == 1  # this one
    assert figure(found, "requests_total", **chat, reason="stop") == 3
    assert figure(found, "requests_total", **chat, reason="error") == 2
    assert figure(found, "renderings_killed_total", **chat) == 1
    assert figure(found, "time_to_first_token_seconds_count", **chat) == 3
    assert figure(found, "queue_seconds_bucket", **chat, le="0.005") == 3
    assert figure(found, "queue_seconds_sum", **chat) == pytest.approx(0.009)
    assert figure(found, "loads_total", **chat) == 1
    assert figure(found, "log_records_total", level="warning") == 1


async def test_figures_of_runners(front: Front) -> None:
    front.runners.scripts.append(ANSWER)
    await ask(front, "POST", "/api/generate", ASK)
    found = await scrape(front)
    chat, ngram = {"model": "chat:latest"}, {"model": "chat:latest", "drafter": "ngram"}
    assert figure(found, "evaluated_prompt_tokens_total", **chat) == 3
    assert figure(found, "cached_prompt_tokens_total", **chat) == 2
    assert figure(found, "decoded_tokens_total", **chat) == 4
    assert figure(found, "drafts_total", **ngram) == 2
    assert figure(found, "drafted_tokens_total", **ngram) == 8
    assert figure(found, "accepted_tokens_total", **ngram) == 6
    gain = (figure(found, f"draft_{kind}_seconds_total", **ngram) for kind in ("plain", "step"))
    assert tuple(gain) == (3.0, 2.0)
    assert figure(found, "inter_token_seconds_bucket", **chat, le="0.005") == 0
    assert figure(found, "inter_token_seconds_bucket", **chat, le="0.01") == 3
    assert figure(found, "inter_token_seconds_count", **chat) == 3
    assert figure(found, "inter_token_seconds_sum", **chat) == pytest.approx(0.024)
    assert figure(found, "memory_bytes", **chat, device="CUDA0", part="weights") == 400
    assert figure(found, "loaded_models") == 1


async def test_counters_outlive_their_runner_and_gauges_do_not(front: Front) -> None:
    for _ in range(2):
        front.runners.scripts.append(ANSWER)
        await ask(front, "POST", "/api/generate", ASK)
        before = await scrape(front)
        await ask(front, "POST", "/api/generate", {"model": "chat", "keep_alive": 0})
        await front.wait_until_unloaded()
        assert fallen(before, await scrape(front)) == set()
    found, chat = await scrape(front), {"model": "chat:latest"}
    assert figure(found, "decoded_tokens_total", **chat) == 8
    assert figure(found, "inter_token_seconds_count", **chat) == 6
    assert figure(found, "drafts_total", **chat, drafter="ngram") == 4
    assert figure(found, "loads_total", **chat) == 2
    assert ("outrider_slots_busy", frozenset(chat.items())) not in found
    assert figure(found, "runner_deaths_total", **chat) == 0


def fallen(before: Samples, after: Samples) -> set[str]:
    """Counters, and buckets of histograms, that are less than they were."""
    suffixes = ("_total", "_bucket", "_count", "_sum")
    counters = {key for key in before if key[0].endswith(suffixes)}
    return {key[0] for key in counters if after.get(key, 0.0) < before[key]}


async def test_a_runner_that_dies_is_counted_once(front: Front) -> None:
    front.runners.scripts += [ANSWER, ANSWER]
    await ask(front, "POST", "/api/generate", ASK)
    (loaded,) = front.pool.loaded_models
    loaded.runner.is_alive = False
    await ask(front, "POST", "/api/generate", ASK)
    found = await scrape(front)
    assert figure(found, "runner_deaths_total", model="chat:latest") == 1
    assert figure(found, "loads_total", model="chat:latest") == 2


async def test_a_load_that_fails_is_counted(front: Front) -> None:
    front.runners.load_error = LoadFailed("no such tensor")
    assert await ask(front, "POST", "/api/generate", ASK) == 500
    found = await scrape(front)
    assert figure(found, "load_failures_total", model="chat:latest") == 1
    assert figure(found, "requests_total", model="chat:latest", reason="error") == 1


async def test_a_client_that_leaves_is_counted(front: Front) -> None:
    front.runners.scripts.append((Delta(1, "yes"), HANG))
    body = json.dumps({"model": "chat", "prompt": "hm"}).encode()
    async with front.client.post("/api/generate", data=body, headers=KEY) as answer:
        await answer.content.readline()
    await front.runners.cancelled.wait()
    found = await scrape(front)
    assert figure(found, "requests_total", model="chat:latest", reason="cancel") == 1
    assert figure(found, "time_to_first_token_seconds_count", model="chat:latest") == 1


async def test_every_metric_of_the_catalogue_is_there_with_its_help(front: Front) -> None:
    await scenario(front)
    async with front.client.get("/metrics", headers=KEY) as answer:
        text = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, fact in CATALOGUE.items():
        family = families[name.removesuffix("_total") if fact.kind == COUNTER else name]
        assert (family.type, family.documentation) == (fact.kind, fact.text)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(fact.labels)
    ours = {name for name in families if name.startswith("outrider_")}
    assert len(ours) == len(CATALOGUE)


def test_names_follow_the_conventions() -> None:
    for name, fact in CATALOGUE.items():
        assert name.endswith("_total") == (fact.kind == COUNTER)
        assert fact.text[0].isupper()
        assert not fact.text.endswith(".")
