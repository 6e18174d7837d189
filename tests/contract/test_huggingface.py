"""Is a model of the Hugging Face hub a model like any other (CONTRACT 1.16 and 6.4)?"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from daemons import Daemon, start_daemon
from hub_server import HubServer
from tiny_gemma import write_gemma4, write_gemma4_assistant

pytestmark = pytest.mark.contract

REPOSITORY = "user/tiny-it-GGUF"
MODEL = f"hf.co/{REPOSITORY}:Q8_0"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubServer]:
    model = write_gemma4(tmp_path / "model.gguf")
    drafter = write_gemma4_assistant(tmp_path / "drafter.gguf", model)
    async with HubServer().serve() as server:
        files = {"a-Q8_0.gguf": model, "mtp-a-Q8_0.gguf": drafter}
        server.add(REPOSITORY, {name: path.read_bytes() for name, path in files.items()})
        yield server


@pytest.fixture
async def hub_daemon(hub: HubServer, tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon with an empty store; it starts and stops beside the hub's event loop."""
    with ExitStack() as stack:
        env = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
        started = start_daemon(tmp_path / "models", tmp_path, env=env)
        yield await asyncio.to_thread(stack.enter_context, started)
        await asyncio.to_thread(stack.close)


async def command(daemon: Daemon, *arguments: str) -> str:
    """What `outrider` prints; it has to succeed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outrider.daemon", *arguments),
        env={**os.environ, "OLLAMA_HOST": daemon.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_pull_list_show_run_and_remove(hub_daemon: Daemon) -> None:
    await command(hub_daemon, "pull", MODEL)
    assert MODEL in await command(hub_daemon, "list")
    assert "gemma4" in await command(hub_daemon, "show", MODEL)
    body = {"model": MODEL, "prompt": "a", "raw": True, "stream": False}
    options = {"options": {"num_predict": 4, "seed": 1}}
    status, answer = await asyncio.to_thread(hub_daemon.post, "/api/generate", body | options)
    assert (status, answer["done"]) == (200, True)
    await command(hub_daemon, "rm", MODEL)
    assert MODEL not in await command(hub_daemon, "list")


async def test_the_lines_of_a_pull(hub_daemon: Daemon) -> None:
    def pull(name: str) -> list[dict[str, object]]:
        return list(hub_daemon.lines("/api/pull", {"model": name}))

    lines = await asyncio.to_thread(pull, MODEL)
    statuses = [str(line["status"]) for line in lines]
    assert statuses[:2] == ["pulling manifest", "selected a-Q8_0.gguf"]
    assert statuses[2].startswith("paired with the drafter mtp-a-Q8_0.gguf: gemma4-assistant")
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    *_, last = await asyncio.to_thread(pull, f"hf.co/{REPOSITORY}:Q2_K")
    assert str(last["error"]).endswith(f"{REPOSITORY} has no Q2_K; it has Q8_0")
