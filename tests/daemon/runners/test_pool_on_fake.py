"""The pool's decisions, with runners that load nothing."""

from __future__ import annotations

import math
from typing import cast

import pytest
from fake_runner import FakeRunners
from outrider.daemon.protocol import Load, Ready
from outrider.daemon.runners.pool import (
    LoadedModel,
    PoolLimits,
    RunnerPool,
    RunnerSpec,
    can_serve,
    choose_victims,
)
from outrider.daemon.runners.runner import Runner

pytestmark = pytest.mark.unit

LOAD = Load("/m.gguf", num_ctx=512, cells=2048, slots=4, batch=128)


def spec(name: str, need_bytes: int = 0) -> RunnerSpec:
    load = Load(f"/{name}.gguf", num_ctx=512, cells=2048, slots=4, batch=128)
    return RunnerSpec(name, "digest", load, need_bytes)


def loaded(
    name: str,
    *,
    users: int = 0,
    keep_alive_s: float = 300.0,
    idle_since_s: float = 0,
    host_bytes: int = 0,
) -> LoadedModel:
    runner = cast(Runner, None)  # the decision does not look at it
    model = LoadedModel(RunnerSpec(name, "", LOAD), runner, keep_alive_s, host_bytes, users)
    model.idle_since_s = idle_since_s
    return model


async def names_after(pool: RunnerPool, *specs: RunnerSpec) -> set[str]:
    """The loaded models after these were used one after the other."""
    for each in specs:
        async with pool.lease(each, None):
            pass
    return {model.spec.name for model in pool.loaded_models}


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


async def test_idle_models_are_evicted_before_busy_ones_and_short_stays_before_long_ones() -> None:
    busy = loaded("busy", users=1, keep_alive_s=1)
    forever = loaded("forever", keep_alive_s=math.inf)
    old, young = loaded("old", idle_since_s=1), loaded("young", idle_since_s=2)
    order = [old, young, forever, busy]
    for models in (order, order[::-1], [young, busy, forever, old]):
        for count in range(1, len(order) + 1):
            victims = choose_victims(models, 0, PoolLimits(max_loaded=count))
            assert victims == order[: len(order) - count + 1]
    assert choose_victims([], 0, PoolLimits(max_loaded=1)) == []


@pytest.mark.parametrize(
    ("need_bytes", "victims"), [(0, 0), (40, 0), (41, 1), (70, 1), (71, 2), (100, 2), (999, 2)]
)
async def test_as_many_are_evicted_as_the_new_one_needs_room_for(
    need_bytes: int, victims: int
) -> None:
    models = [loaded("a", idle_since_s=1, host_bytes=30), loaded("b", users=1, host_bytes=30)]
    chosen = choose_victims(models, need_bytes, PoolLimits(memory_bytes=100))
    assert [model.spec.name for model in chosen] == ["a", "b"][:victims]


async def test_a_model_that_needs_the_memory_of_another_replaces_it() -> None:
    runners = FakeRunners()
    runners.ready = Ready(0, 0)  # nothing is measured: the plans hold
    pool = RunnerPool(runners.start, PoolLimits(3, memory_bytes=100), keep_alive_s=300)
    assert await names_after(pool, spec("a", 30), spec("b", 40)) == {"a", "b"}
    assert await names_after(pool, spec("c", 60)) == {"b", "c"}
    assert await names_after(pool, spec("d", 100)) == {"d"}
    await pool.close()


async def test_what_a_runner_takes_on_the_host_replaces_the_plan() -> None:
    runners = FakeRunners()
    runners.ready = Ready(size_bytes=90, size_vram_bytes=80)
    pool = RunnerPool(runners.start, PoolLimits(3, memory_bytes=100), keep_alive_s=300)
    assert await names_after(pool, spec("a", 90), spec("b", 90)) == {"a", "b"}
    await pool.close()


async def test_a_model_larger_than_the_memory_is_loaded_alone_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runners = FakeRunners()
    limits = PoolLimits(3, memory_bytes=100 << 20)
    pool = RunnerPool(runners.start, limits, keep_alive_s=300)
    assert await names_after(pool, spec("a", 30 << 20), spec("huge", 200 << 20)) == {"huge"}
    assert "huge needs about 200 MiB, and models may take 100 MiB" in caplog.text
    await pool.close()
