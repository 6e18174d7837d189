"""`outrider top`: what it asks for, and how a snapshot reads in 80 columns."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from outrider.daemon.cli import entry, top, top_view
from scripted import Reply, Scripted

pytestmark = pytest.mark.unit

Capture = pytest.CaptureFixture[str]
DEVICE = {
    "device": "CPU", "weights_bytes": 90 << 20, "cache_bytes": 1 << 30, "compute_bytes": 0,
    "drafter_bytes": 0, "adapter_bytes": 0,
}  # fmt: skip
SPECULATION = {
    "drafters": ["ngram"], "refusal": "", "drafted": 8, "accepted": 6, "drafts": 4, "speedup": 1.3,
    "by_drafter": [{"name": "ngram", "verified": [4, 4], "accepted": [4, 2]}],
    "verify_costs": [{"rows": 1, "seconds": 0.0105}, {"rows": 4, "seconds": 0.02}],
}  # fmt: skip
MODEL: dict[str, Any] = {
    "name": "m:latest", "is_embedding": False, "devices": [DEVICE], "slots": 4, "slots_busy": 1,
    "waiting": 2, "leases": 0, "cells": 32768, "cells_used": 1248, "expires_in_s": 125.0,
    "decoded_tokens": 100, "warnings": ["slow"], "speculation": SPECULATION,
}  # fmt: skip
REQUEST = {
    "number": 1, "started_at": 0.0, "route": "POST /v1/chat/completions", "model": "m:latest",
    "status": 200, "ending": "stop", "took_s": 2.94, "first_s": 0.0124, "tokens": 200,
    "tokens_per_s": 70.04,
}  # fmt: skip
IDLE: dict[str, Any] = {
    "version": "0.1.0", "uptime_s": 65.0, "clock_s": 10.0, "models": [], "waiting_for_load": 0,
    "running": [], "recent": [],
}  # fmt: skip
BUSY = {**IDLE, "clock_s": 12.0, "models": [MODEL], "recent": [REQUEST]}
BEFORE = {**IDLE, "models": [{**MODEL, "decoded_tokens": 60}]}
SHOWN = """\
Outrider 0.1.0  up 1m05s  20.0 tokens/s  slots 1/4  waiting 2  memory 1.09 GiB

m:latest  unloaded in 2m05s
  20.0 tokens/s  slots 1/4  waiting 2  cells 1,248/32,768  decoded 100
  CPU: weights 90.0 MiB, KV cache 1.00 GiB
  speculation by ngram: +30%, accepted 75% of 2.0 per draft
    ngram, accepted by depth: 100% 50%
    ms of a step by rows: 1: 10.5  4: 20.0
  warning: slow

TIME     ROUTE                MODEL          STATUS     TOOK  FIRST TOKENS    /S
"""
ROW = " /v1/chat/completions m:latest       stop       2.9s   12ms    200    70"


async def outrider(daemon: Scripted, *args: str) -> int:
    return await asyncio.to_thread(entry.exit_code, ["--host", daemon.url, "top", *args])


def test_a_busy_daemon_in_80_columns() -> None:
    text = top_view.render(BUSY, BEFORE)
    assert text.startswith(SHOWN)
    assert text.endswith(ROW)
    assert max(map(len, text.splitlines())) <= 80


def test_an_idle_daemon_says_what_to_do() -> None:
    lines = top_view.render(IDLE, None).splitlines()
    assert lines[0].startswith("Outrider 0.1.0  up 1m05s  - tokens/s")
    assert lines[2] == "No model is loaded; a request loads one: outrider run MODEL"
    assert lines[4] == "No request yet."


def test_a_terminal_is_not_overfilled() -> None:
    many = {**BUSY, "models": [MODEL] * 9, "recent": [REQUEST] * 50}
    lines = top_view.render(many, BEFORE, width=40, height=23).splitlines()
    assert len(lines) == 23
    assert max(map(len, lines)) <= 40


def test_a_runner_that_was_started_again_has_no_rate() -> None:
    text = top_view.render({**BUSY, "models": [{**MODEL, "decoded_tokens": 3}]}, BEFORE)
    assert "- tokens/s" in text


def test_statuses() -> None:
    asked = [(0, "", "running"), (499, "", "left"), (404, "", "404"), (200, "failed", "failed")]
    for status, ending, word in asked:
        request = {**REQUEST, "status": status, "ending": ending}
        assert f" {word} " in top_view.render({**BUSY, "recent": [request]}, None)


def test_a_name_sends_no_commands_to_the_terminal() -> None:
    text = top_view.render({**BUSY, "models": [{**MODEL, "name": "m\x1b[2J\n:x"}]}, None)
    assert "m?[2J?:x" in text
    assert "\x1b" not in text


def test_speculation_that_is_refused() -> None:
    refused = {**SPECULATION, "drafters": [], "refusal": "another vocabulary"}
    text = top_view.render({**BUSY, "models": [{**MODEL, "speculation": refused}]}, None)
    assert "  no speculation: another vocabulary\n" in text


async def test_once_prints_rates(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "INTERVAL_S", 0.0)
    script = {"GET /api/snapshot": [Reply(BEFORE), Reply(BUSY)]}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "--once") == 0
    assert capsys.readouterr().out.startswith(SHOWN)


async def test_json_is_the_snapshot(capsys: Capture) -> None:
    async with Scripted({"GET /api/snapshot": Reply(BUSY)}) as daemon:
        assert await outrider(daemon, "--json") == 0
        assert [route for route, _ in daemon.seen] == ["GET /api/snapshot"]
    assert json.loads(capsys.readouterr().out) == BUSY


async def test_another_daemon_is_an_error(capsys: Capture) -> None:
    async with Scripted({}) as daemon:
        assert await outrider(daemon, "--once") == 1
    assert capsys.readouterr().err.startswith("Error: ")
