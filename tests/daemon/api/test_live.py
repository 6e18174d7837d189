"""What the page and `outrider top` are told: snapshots, once and as events, and recent requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from fake_runner import DONE, HANG, REPORT
from front import Front
from msgspec.structs import replace
from outrider.daemon.api import live, recent
from outrider.daemon.api.diagnosis import DOCTOR, Doctor
from outrider.daemon.api.live import FEED, LiveFeed
from outrider.daemon.api.request_log import CLIENT_LEFT
from outrider.daemon.diagnosis.facts import Finding
from outrider.daemon.protocol import (
    Delta,
    DeviceBytes,
    DrafterCounts,
    Ready,
    RowCost,
    SpeculationDetail,
    Stats,
)

pytestmark = pytest.mark.unit

SECRET = "a prompt that nobody else may see"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": SECRET}]}
ANSWER = [Delta(1, "Hel"), Delta(1, "lo", done=replace(DONE, speculation_report=REPORT))]
DETAIL = SpeculationDetail(
    (DrafterCounts("ngram", (4, 3), (3, 1)),), (RowCost(1, 0.01), RowCost(4, 0.02)), ()
)
HOST = DeviceBytes("CPU", is_gpu=False, weights_bytes=700, cache_bytes=300)


async def snapshot(front: Front) -> Any:
    """A new one, whatever was asked for before."""
    feed_of(front)._taken_s = -live.SHARED_S
    status, body = await front.get("/api/snapshot")
    assert status == 200
    return body


def feed_of(front: Front) -> LiveFeed:
    app = front.client.app
    assert isinstance(app, web.Application)
    return app[FEED]


async def event(answer: ClientResponse) -> Any:
    line = await answer.content.readline()
    assert await answer.content.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: "))


async def eventually(front: Front, num_watchers: int) -> None:
    async with asyncio.timeout(5):
        while feed_of(front).num_watchers != num_watchers:  # noqa: ASYNC110 - the client has left
            await asyncio.sleep(0.001)


async def test_an_idle_daemon(front: Front) -> None:
    body = await snapshot(front)
    assert (body["models"], body["running"], body["recent"]) == ([], [], [])
    assert (body["waiting_for_load"], body["loads"], body["evictions"]) == (0, 0, 0)
    assert body["machine"] == {"memory_bytes": 16 << 30, "gpus": []}
    assert body["version"]
    assert 0 <= body["uptime_s"] < 60


async def test_a_loaded_model_with_its_memory_and_speculation(front: Front) -> None:
    front.runners.ready = Ready(1000, 0, drafters=("ngram",), devices=(HOST,))
    front.runners.stats = Stats(
        steps=10, step_ns=2_000_000_000, drafted_tokens=7, accepted_tokens=4, drafts=4,
        speculated_ns=50, plain_ns=80, expected_ns=100, misjudged_ns=7, slots_busy=1,
        waiting=2, cells_used=33, decoded_tokens=40, detail=DETAIL,
    )  # fmt: skip
    await front.post("/api/generate", {"model": "chat", "keep_alive": 60})
    (model,) = (await snapshot(front))["models"]
    assert (model["name"], model["is_embedding"]) == ("chat:latest", False)
    assert model["devices"][0]["weights_bytes"] == 700
    assert (model["slots_busy"], model["waiting"], model["cells_used"]) == (1, 2, 33)
    assert model["step_s"] == pytest.approx(2.0)
    assert 50 < model["expires_in_s"] <= 60
    assert model["speculation"] == {
        "drafters": ["ngram"],
        "refusal": "",
        "drafted": 7,
        "accepted": 4,
        "drafts": 4,
        "speedup": 1.6,
        "misjudged": pytest.approx(0.07),
        "by_drafter": [{"name": "ngram", "verified": [4, 3], "accepted": [3, 1]}],
        "verify_costs": [{"rows": 1, "seconds": 0.01}, {"rows": 4, "seconds": 0.02}],
        "draft_costs": [],
    }


async def test_a_model_without_drafter_that_stays_for_ever(front: Front) -> None:
    await front.post("/api/generate", {"model": "chat", "keep_alive": -1})
    (model,) = (await snapshot(front))["models"]
    assert (model["speculation"], model["expires_in_s"]) == (None, None)


async def test_a_request_is_kept_with_its_times_and_without_its_text(front: Front) -> None:
    front.runners.scripts.append(ANSWER)
    await front.lines("/api/chat", CHAT)
    body = await snapshot(front)
    (request,) = body["recent"]
    shown = {key: request[key] for key in ("route", "model", "status", "ending", "tokens")}
    assert shown == {
        "route": "POST /api/chat",
        "model": "chat:latest",
        "status": 200,
        "ending": "stop",
        "tokens": 4,
    }
    assert (request["prompt_tokens"], request["cached_tokens"]) == (5, 2)
    assert (request["drafted"], request["accepted"]) == (8, 6)
    assert request["tokens_per_s"] == pytest.approx(4 / 2_000e-9)
    assert 0 <= request["first_s"] <= request["took_s"] < 5
    assert SECRET not in json.dumps(body)


async def test_failures_are_kept_reading_is_not(front: Front) -> None:
    for path in ("/api/tags", "/api/ps", "/ui", "/api/nothing"):
        await front.send("GET", path)
    await front.post("/api/show", {"model": "chat"})
    assert (await snapshot(front))["recent"] == []
    await front.post("/api/chat", CHAT | {"model": "missing"})
    await front.send("DELETE", "/api/delete", {"model": "missing"})
    front.runners.scripts.append([Delta(1, "Hel"), RuntimeError("broken")])
    await front.lines("/api/chat", CHAT)
    requests = (await snapshot(front))["recent"]
    told = [(each["route"], each["model"], each["status"], each["ending"]) for each in requests]
    assert told == [
        ("POST /api/chat", "chat:latest", 200, "failed"),
        ("DELETE /api/delete", "", 404, ""),
        ("POST /api/chat", "", 404, ""),
    ]


async def test_vectors_are_kept_with_their_tokens(front: Front) -> None:
    front.runners.vectors = [[1.0, 0.0, 0.0, 0.0]]
    await front.post("/api/embed", {"model": "vectors", "input": "hello"})
    (request,) = (await snapshot(front))["recent"]
    assert (request["model"], request["prompt_tokens"]) == ("vectors:latest", 3)
    assert (request["tokens"], request["ending"], request["first_s"]) == (0, "", None)


async def test_a_running_request_is_shown_until_its_client_leaves(front: Front) -> None:
    front.runners.scripts.append([Delta(1, "Hel"), HANG])
    async with front.client.post("/api/chat", json=CHAT) as answer:
        await answer.content.readline()
        (request,) = (await snapshot(front))["running"]
        assert (request["status"], request["model"]) == (0, "chat:latest")
    await front.runners.cancelled.wait()
    body = await snapshot(front)
    assert body["running"] == []
    assert body["recent"][0]["status"] == CLIENT_LEFT


async def test_the_number_of_kept_requests_is_bounded(front: Front) -> None:
    for _ in range(recent.MAX_RECENT + 3):
        await front.post("/api/chat", {})
    requests = (await snapshot(front))["recent"]
    assert [requests[0]["number"], len(requests)] == [recent.MAX_RECENT + 3, recent.MAX_RECENT]


async def test_events_come_while_somebody_looks(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "INTERVAL_S", 0.001)
    monkeypatch.setattr(live, "SHARED_S", 0.0)
    async with front.client.get("/api/live") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        first, second = await event(answer), await event(answer)
        assert second["clock_s"] > first["clock_s"]
        assert feed_of(front).num_watchers == 1
    await eventually(front, 0)
    assert await front.send("HEAD", "/api/live") == (200, "")
    assert feed_of(front).num_watchers == 0


async def test_a_daemon_that_stops_ends_the_events(front: Front) -> None:
    async with front.client.get("/api/live") as answer:
        await event(answer)
        await feed_of(front).close(web.Application())
        async with asyncio.timeout(5):
            assert await answer.content.read() == b""


async def test_watchers_share_a_snapshot_and_their_number_is_bounded(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_WATCHERS", 2)
    feed = feed_of(front)
    feed._taken_s = -live.SHARED_S
    async with front.client.get("/api/live") as one, front.client.get("/api/live") as two:
        assert await event(one) == await event(two)
        status, body = await front.get("/api/live")
        assert (status, body) == (503, {"error": live.TOO_MANY})
    await eventually(front, 0)


async def test_those_who_ask_the_doctor_together_share_one_examination(front: Front) -> None:
    examined = []

    def examine() -> list[Finding]:
        examined.append(1)
        return [Finding("the disk is full", "delete models")]

    app = front.client.app
    assert isinstance(app, web.Application)
    app[DOCTOR]._examine = examine
    answers = await asyncio.gather(*(front.post("/api/doctor", {}) for _ in range(3)))
    finding = {"text": "the disk is full", "remedy": "delete models", "is_problem": True}
    assert answers == [(200, {"findings": [finding]})] * 3
    assert len(examined) == 1


async def test_nobody_is_examined_before_anybody_asks() -> None:
    doctor = Doctor(list)
    assert await doctor.findings() == []
