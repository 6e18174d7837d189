"""What does `outrider doctor` print, and how does it end? Facts are made up, daemons scripted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from outrider.daemon.cli import doctor, entry
from outrider.daemon.diagnosis.facts import (
    AddressUse,
    Graphics,
    GraphicsCard,
    Installation,
    LlamaBuild,
    LlamaDevice,
    MachineFacts,
    Memory,
)
from scripted import Reply, Scripted

pytestmark = pytest.mark.unit

GIB = 1 << 30
NVIDIA = Graphics((GraphicsCard("NVIDIA", "0000:01:00.0", "nvidia"),), "550.54.14", True)
BUILD = LlamaBuild("0.3.36", "0.3.36", ("cpu",), devices=(LlamaDevice("CPU", "a CPU", "cpu"),))
FACTS = MachineFacts(
    memory=Memory(16 * GIB, 8 * GIB), llama=BUILD, installation=Installation("0.1.0")
)
Capture = pytest.CaptureFixture[str]


async def run(
    monkeypatch: pytest.MonkeyPatch, facts: MachineFacts, daemon: Scripted, *arguments: str
) -> int:
    def survey(models: Path, address: AddressUse, environment: object) -> MachineFacts:
        return msgspec.structs.replace(facts, address=address)

    monkeypatch.setattr(doctor, "survey", survey)
    return await asyncio.to_thread(entry.exit_code, ["--host", daemon.url, "doctor", *arguments])


async def test_a_sound_machine(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    version = Reply({"version": "0.33.0"}, headers={"Outrider-Version": "0.1.0"})
    async with Scripted({"GET /api/version": version}) as daemon:
        assert await run(monkeypatch, FACTS, daemon) == 0
    told = capsys.readouterr().out
    assert "memory        16.0 GiB, 8.0 GiB free" in told
    assert "(Outrider 0.1.0 is running)" in told
    assert told.endswith("No problems found.\n")


async def test_a_problem_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    facts = msgspec.structs.replace(FACTS, graphics=NVIDIA)
    version = Reply({"version": "0.33.0"}, headers={"Outrider-Version": "0.1.0"})
    async with Scripted({"GET /api/version": version}) as daemon:
        assert await run(monkeypatch, facts, daemon) == 1
    told = capsys.readouterr()
    assert "GPU           NVIDIA at 0000:01:00.0, driver nvidia 550.54.14" in told.out
    assert "  - NVIDIA GPU found, but llama.cpp was built for the CPU\n    install" in told.out
    assert told.err == ""


async def test_json(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    async with Scripted({"GET /api/version": Reply({"version": "0.12.0"})}) as daemon:
        assert await run(monkeypatch, FACTS, daemon, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["facts"]["memory"]["total_bytes"] == 16 * GIB
    assert told["facts"]["address"]["program"] == "ollama"
    assert [finding["is_problem"] for finding in told["findings"]] == [True]


async def test_who_answers() -> None:
    async def asked(daemon: Scripted) -> AddressUse:
        async with doctor.Client(daemon.url) as client:
            return await doctor.who_answers(client)

    async with Scripted({"GET /api/version": Reply(b"<html>")}) as daemon:
        assert (await asked(daemon)).program == "other"
    assert (await asked(daemon)).program == ""
