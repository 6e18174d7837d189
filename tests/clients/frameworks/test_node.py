"""Programs in JavaScript: Ollama's own client, and Vercel's AI SDK."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from daemons import Daemon
from registry_server import RegistryServer

pytestmark = pytest.mark.clients

PROGRAMS = Path(__file__).parent / "node"
PACKAGES = Path(__file__).parents[3] / ".cache" / "clients-node" / "node_modules"


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
@pytest.mark.skipif(not PACKAGES.is_dir(), reason="`make test-clients` installs the packages")
@pytest.mark.parametrize("program", ["ollama.mjs", "ai.mjs"])
async def test_a_program(served: Daemon, tmp_path: Path, program: str) -> None:
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    path = shutil.copy(PROGRAMS / program, tmp_path)
    async with RegistryServer().serve() as registry:
        words = ["node", path, served.url, registry.host]
        done = await asyncio.to_thread(
            subprocess.run, words, capture_output=True, text=True, timeout=100
        )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
