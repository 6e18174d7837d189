"""`outrider plan` and `outrider ps --verbose`: what they send, and the tables that they print."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from outrider.daemon.cli import entry, humanize
from scripted import Reply, Scripted

pytestmark = pytest.mark.unit

GIB = 1 << 30
HOST = {"device": "CPU", "layers": 1, "weights_bytes": GIB, "planned_bytes": GIB, "free_bytes": 0}
GPU = {
    "device": "CUDA0",
    "layers": 24,
    "weights_bytes": 12 * GIB,
    "cache_bytes": 800 << 20,
    "planned_bytes": 12 * GIB + (800 << 20),
    "free_bytes": 24 * GIB,
}
PLAN = {
    "model": "m:latest",
    "context_length": 32768,
    "slots": 4,
    "cells": 131072,
    "kv_cache_type": "q8_0",
    "drafter": "/models/mtp-m.gguf",
    "devices": [HOST, GPU],
    "concessions": ["the KV cache is q8_0 in place of f16"],
    "warnings": ["1 of 25 layers is on the CPU"],
}
TABLE = """\
PART        CPU         CUDA0
weights     1.00 GiB    12.00 GiB
KV cache    0           800.0 MiB
total       1.00 GiB    12.78 GiB
free        0           24.00 GiB
layers      1           24"""
SENTENCES = """\
Given up: the KV cache is q8_0 in place of f16
Warning: 1 of 25 layers is on the CPU"""
HEAD = "m:latest: context 32,768, 4 slots with 131,072 cells, KV cache q8_0, drafter mtp-m.gguf"

Capture = pytest.CaptureFixture[str]


async def outrider(daemon: Scripted, *args: str) -> int:
    return await asyncio.to_thread(entry.exit_code, ["--host", daemon.url, *args])


async def sent(daemon: Scripted, *args: str) -> Any:
    assert await outrider(daemon, "plan", "m", *args) == 0
    return daemon.seen[-1][1]


async def test_the_table(capsys: Capture) -> None:
    async with Scripted({"POST /api/plan": Reply(PLAN)}) as daemon:
        assert await outrider(daemon, "plan", "m") == 0
    assert capsys.readouterr().out == f"{HEAD}\n\n{TABLE}\n\n{SENTENCES}\n"


async def test_another_machine_is_named(capsys: Capture) -> None:
    async with Scripted({"POST /api/plan": Reply(PLAN)}) as daemon:
        await outrider(daemon, "plan", "m", "--memory", "24GiB,8GiB")
        out = capsys.readouterr().out
        for sizes in ("0", "24GiB,0", "1GiB,2GiB,3GiB"):
            await outrider(daemon, "plan", "m", "--memory", sizes)
    assert "\n\nPlanned for GPUs of 24.00 GiB and 8.00 GiB, beside this machine's own" in out
    out = capsys.readouterr().out
    assert "Planned for the CPU alone, with this machine's own memory." in out
    assert "Planned for a GPU of 24.00 GiB, beside" in out
    assert "Planned for GPUs of 1.00 GiB, 2.00 GiB and 3.00 GiB, beside" in out


async def test_a_drafter_that_is_a_layer_of_the_model_has_no_name(capsys: Capture) -> None:
    plan = {**PLAN, "drafter": f"/models/blobs/sha256-{'0' * 64}"}
    async with Scripted({"POST /api/plan": Reply(plan)}) as daemon:
        assert await outrider(daemon, "plan", "m") == 0
    assert capsys.readouterr().out.startswith(HEAD.replace("mtp-m.gguf", "its own"))


async def test_the_wishes_are_sent(capsys: Capture) -> None:
    async with Scripted({"POST /api/plan": Reply(PLAN)}) as daemon:
        assert await sent(daemon) == {"model": "m"}
        assert await sent(daemon, "--ctx", "8192", "--slots", "2", "--kv", "q4_0") == {
            "model": "m",
            "options": {"num_ctx": 8192},
            "slots": 2,
            "kv_cache_type": "q4_0",
        }
        asked = await sent(daemon, "--memory", "1GiB,500MB", "--draft", "off")
        assert asked == {"model": "m", "memory": [GIB, 500 * 10**6], "draft": "off"}
        assert (await sent(daemon, "--draft", "d.gguf"))["draft"] == str(Path.cwd() / "d.gguf")
    assert capsys.readouterr().err == ""


async def test_json(capsys: Capture) -> None:
    async with Scripted({"POST /api/plan": Reply(PLAN)}) as daemon:
        assert await outrider(daemon, "plan", "m", "--json") == 0
    assert json.loads(capsys.readouterr().out) == PLAN


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "model 'm' not found"), (500, "m needs 40 GiB; with q8_0 it would fit")],
)
async def test_a_refusal_ends_with_1(status: int, text: str, capsys: Capture) -> None:
    async with Scripted({"POST /api/plan": Reply({"error": text}, status)}) as daemon:
        assert await outrider(daemon, "plan", "m") == 1
    assert capsys.readouterr().err == f"Error: {text}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--memory", "24G"], "'24G' is not a size such as 24GiB"),
        (["--memory", "24"], "'24' is 24 bytes, which is no GPU's memory; name a size such as 24G"),
        (["--memory", "1GiB, 9999TiB"], "'9999TiB' is 10,994,016,766,132,224 bytes, which is no"),
        (["--memory", "1GiB" + 16 * ",1GiB"], "17 GPUs are named, and llama.cpp uses 16 at most"),
        (["--kv", "q5"], "'q5' is not one of"),
        (["--slots", "0"], "0 is not in the range"),
    ],
)
async def test_bad_options(args: list[str], words: str, capsys: Capture) -> None:
    async with Scripted({}) as daemon:
        assert await outrider(daemon, "plan", "m", *args) == 1
    assert words in capsys.readouterr().err


async def test_ps_verbose_has_the_measured_table(capsys: Capture) -> None:
    devices = [{"device": "CPU", "weights_bytes": 3 << 20, "measured_bytes": 3 << 20}]
    memory = {"devices": devices, "planned_bytes": 4 << 20, "warnings": ["slow"]}
    models = [{"name": "a:1", "size": 3 << 20, "memory": memory}, {"name": "b:1", "size": 5}]
    async with Scripted({"GET /api/ps": Reply({"models": models})}) as daemon:
        assert await outrider(daemon, "ps", "-v", "a") == 0
        out = capsys.readouterr().out
        assert await outrider(daemon, "ps") == 0
    assert out.splitlines()[2:] == [
        "",
        "a:1: 3.0 MiB taken, 4.0 MiB planned",
        "",
        "PART       CPU",
        "weights    3.0 MiB",
        "total      3.0 MiB",
        "",
        "Warning: slow",
    ]
    assert "PART" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0"),
        (1, "1 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 29, "1.50 GiB"),
        (1 << 45, "32768.00 GiB"),
    ],
)
def test_memory_has_binary_units(size_bytes: int, text: str) -> None:
    assert humanize.memory(size_bytes) == text
