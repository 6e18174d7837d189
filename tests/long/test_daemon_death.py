"""After SIGKILL of the daemon no process of it is alive: no runner, no renderer, no probe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest
from long.dialects import DIALECTS, follow
from long.processes import MARK, marked, new_mark, wait_until
from long.sizes import SIZES
from tiny import CHATML, write_llama
from weights import import_gguf

pytestmark = pytest.mark.long

ORPHANS_S = 5.0  # within which everything has ended
READY_S = 30.0
STREAMS = 8
LOOPING = "{% for i in range(10 ** 9) %}{% for j in range(10 ** 9) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`loops` has a template without an end, `big` takes a while to load."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "tiny", write_llama(folder / "tiny.gguf", seed=1))
    looping = write_llama(folder / "loops.gguf", seed=2, template=LOOPING + CHATML)
    import_gguf(root, "loops", looping)
    import_gguf(root, "big", write_llama(folder / "big.gguf", seed=3, vocab=60_000, layers=4))
    return root


def start(root: Path, folder: Path, mark: str) -> tuple[subprocess.Popen[str], Path]:
    log = folder / f"{mark}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "outrider.daemon", "serve", "--port", "0"],
            env={
                **os.environ,
                MARK: mark,
                "OUTRIDER_MODELS": str(root),
                "XDG_CACHE_HOME": str(folder),
                "OUTRIDER_NUM_PARALLEL": str(STREAMS),
            },
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return process, log


def url_of(log: Path) -> str:
    """Where the daemon listens."""

    def found() -> bool:
        return "ready at " in log.read_text()

    assert wait_until(found, READY_S) is not None, log.read_text()
    return log.read_text().split("ready at ")[1].split(";")[0]


async def keep_busy(url: str, for_s: float) -> None:
    """Streams of one model, templates that hang in another, a load of a third."""
    timeout = aiohttp.ClientTimeout(total=for_s)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        models = ["tiny"] * STREAMS + ["loops"] * 2 + ["big"]
        work = [
            follow(session, DIALECTS[i % 6], DIALECTS[i % 6].body(model, f"tell {i}", 100_000))
            for i, model in enumerate(models)
        ]
        await asyncio.gather(*work, return_exceptions=True)


def alive(mark: str) -> list[psutil.Process]:
    found = []
    for process in marked(mark):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.timeout(120 + 20 * SIZES.deaths)
def test_nothing_outlives_a_killed_daemon(
    root: Path, tmp_path: Path, measurements: list[str]
) -> None:
    """It is killed at any moment of its start, and at any of its work."""
    draw, took_s, counts = random.Random(SIZES.seed), [], []
    for number in range(SIZES.deaths):
        mark = new_mark()
        process, log = start(root, tmp_path, mark)
        try:
            if number % 3 == 0:
                time.sleep(draw.uniform(0, 1.5))
            else:
                asyncio.run(keep_busy(url_of(log), draw.uniform(0.5, 4.0)))
            counts.append(len(alive(mark)))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        ended_s = wait_until(lambda mark=mark: not alive(mark), ORPHANS_S)
        left = alive(mark)
        told = [" ".join(orphan.cmdline()) for orphan in left]
        for orphan in left:
            orphan.kill()
        assert ended_s is not None, told
        took_s.append(ended_s)
    measurements.append(
        f"daemon killed {len(took_s)} times with 1 to {max(counts)} processes: the last of them "
        f"ended within {max(took_s):.2f} s"
    )
    assert max(counts) > 4, "runners and the children that render were there"
