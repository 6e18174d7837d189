"""/api/plan and the plan in /api/show: what a model would take, from its header alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from front import LLAMA, MACHINE, Front, start_front
from tiny import named, write_gguf, write_llama
from weights import import_gguf

pytestmark = pytest.mark.unit

PARTS = (
    *("weights", "cache", "compute", "adapter", "drafter", "projector", "overhead"),
    "growth",
)


@pytest.fixture(scope="module")
def plans_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real tiny model, whose parts have sizes, and one whose context cannot fit 16 GiB."""
    root, folder = tmp_path_factory.mktemp("plans"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "small", write_llama(folder / "small.gguf", context=16384))
    wide = {**LLAMA, "block_count": 64, "context_length": 1 << 20, "embedding_length": 16384}
    wide |= {"attention.head_count": 64, "attention.head_count_kv": 64}
    path = write_gguf(folder / "wide.gguf", named("llama", wide), ())
    import_gguf(root, "wide", path)
    import_gguf(root, "wider", path, params={"num_ctx": 1 << 20})
    return root


async def planned(front: Front, **body: object) -> Any:
    status, answer = await front.post("/api/plan", {"model": "small", **body})
    assert status == 200, answer
    return answer


async def test_a_plan_has_a_row_for_each_device(plans_store: Path) -> None:
    async with start_front(plans_store) as front:
        plan = await planned(front)
        assert front.runners.loads == []
    assert plan["model"] == "small:latest"
    (host,) = plan["devices"]
    assert (host["device"], host["is_gpu"], host["layers"]) == ("CPU", False, 3)
    assert host["weights_bytes"] > 0
    assert host["total_bytes"] == MACHINE.memory_bytes
    total = sum(host[f"{part}_bytes"] for part in PARTS)
    assert plan["planned_bytes"] == host["planned_bytes"] == total


async def test_wishes_change_the_plan(plans_store: Path) -> None:
    async with start_front(plans_store) as front:
        small = await planned(front, options={"num_ctx": 4096}, slots=1)
        long = await planned(front, options={"num_ctx": 8192}, slots=1)
        coarse = await planned(front, options={"num_ctx": 8192}, slots=1, kv_cache_type="q8_0")
        many = await planned(front, options={"num_ctx": 4096}, slots=8)
    assert (small["context_length"], small["slots"], small["kv_cache_type"]) == (4096, 1, "f16")
    assert (many["slots"], coarse["kv_cache_type"]) == (8, "q8_0")
    sizes = [plan["devices"][0]["cache_bytes"] for plan in (small, coarse, long, many)]
    assert sizes == sorted(set(sizes))
    assert sizes[2] == 2 * sizes[0]


@pytest.mark.parametrize(
    ("memory", "names"),
    [
        (None, ["CPU"]),
        ([0], ["CPU"]),
        ([24 << 30], ["CPU", "GPU0"]),
        (["24GiB", "8GB"], ["CPU", "GPU0", "GPU1"]),
    ],
)
async def test_another_machine_has_the_gpus_that_are_named(
    plans_store: Path, memory: list[object] | None, names: list[str]
) -> None:
    async with start_front(plans_store) as front:
        plan = await planned(front, **({} if memory is None else {"memory": memory}))
    assert [device["device"] for device in plan["devices"]] == names
    assert sum(device["layers"] for device in plan["devices"]) == 3
    if "GPU1" in names:
        assert plan["devices"][2]["total_bytes"] == 8 * 10**9


async def test_a_drafter_can_be_named_or_left_out(plans_store: Path, tmp_path: Path) -> None:
    drafter = write_llama(tmp_path / "drafter.gguf", layers=1)
    async with start_front(plans_store) as front:
        alone = await planned(front, draft="off")
        beside = await planned(front, draft=str(drafter))
        missing = await front.post("/api/plan", {"model": "small", "draft": "/no/such.gguf"})
    assert alone["drafter"] == ""
    assert alone["devices"][0]["drafter_bytes"] == 0
    assert beside["drafter"] == str(drafter)
    assert beside["devices"][0]["drafter_bytes"] > 0
    assert missing == (404, {"error": "there is no file /no/such.gguf; name a drafter's GGUF file"})


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "model is required"),
        ({"model": "absent"}, 404, "model 'absent' not found"),
        ({"model": "hf.co/a/b"}, 404, "model 'hf.co/a/b' not found"),
        ({"model": "small", "kv_cache_type": "q5_1"}, 400, "kv_cache_type"),
        ({"model": "small", "slots": -1}, 400, "slots"),
        ({"model": "small", "memory": ["much"]}, 400, "'much' is not a size"),
        ({"model": "small", "memory": [-1]}, 400, "memory"),
        ({"model": "small", "memory": [1 << 30] * 17}, 400, "memory"),
        ({"model": "small", "draft": __file__}, 400, "is no GGUF file that can be read"),
    ],
)
async def test_bad_requests(
    plans_store: Path, body: dict[str, object], status: int, words: str
) -> None:
    async with start_front(plans_store) as front:
        got, answer = await front.post("/api/plan", body)
    assert got == status
    assert words in answer["error"]


async def test_what_cannot_fit_is_refused_with_the_numbers_and_nothing_is_loaded(
    plans_store: Path,
) -> None:
    async with start_front(plans_store) as front:
        await front.post("/api/generate", {"model": "small", "keep_alive": -1})
        body = {"model": "wide", "options": {"num_ctx": 1 << 20}}
        refusals = [await front.post(path, body) for path in ("/api/plan", "/api/generate")]
        chat = {"model": "wide", "messages": [{"role": "user", "content": "x"}]}
        openai, _ = await front.post("/v1/chat/completions", {**chat, "model": "wider"})
        assert [load.model for load in front.runners.loads] == [front.runners.loads[0].model]
        assert [m.spec.name for m in front.pool.loaded_models] == ["small:latest"]
        metrics = (await front.send("GET", "/metrics"))[1]
    for status, answer in refusals:
        assert status == 500
        assert "wide" in answer["error"]
        assert "iB" in answer["error"]
    assert openai == 400
    assert 'outrider_load_refusals_total{model="wide:latest"} 1.0' in metrics


async def test_show_has_a_plan_only_where_everything_is_asked_for(plans_store: Path) -> None:
    async with start_front(plans_store) as front:
        short = (await front.post("/api/show", {"model": "small"}))[1]
        whole = (await front.post("/api/show", {"model": "small", "verbose": True}))[1]
        plan = await planned(front)
        refused = await front.post("/api/show", {"model": "wider", "verbose": True})
    assert "plan" not in short
    assert {**whole["plan"], "model": "small:latest"} == plan
    assert refused[0] == 200
    assert "wider" in refused[1]["plan"]["refusal"]
