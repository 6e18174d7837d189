"""Does a runner in the background, with all that it starts, have a low priority?"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from harness import load_spec
from outrider.daemon.runner.priority import IO_LEVEL, NICE
from outrider.daemon.runners.process import RunnerProcess
from tiny import write_llama

pytestmark = pytest.mark.model


def niceness(process: psutil.Process) -> set[int]:
    """Of all threads; on Linux each has its own."""
    return {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()}


@pytest.mark.parametrize("background", [True, False])
async def test_the_priority_is_the_one_asked_for(tmp_path: Path, background: bool) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    gguf = write_llama(tmp_path / "tiny.gguf", seed=1)
    runner = await RunnerProcess.start(load_spec(gguf, background=background, threads=2))
    try:
        process = psutil.Process(runner.pid)
        renderer = process.children()[0]
        expected = max(own, NICE) if background else own
        assert niceness(process) == niceness(renderer) == {expected}
        if background and hasattr(psutil, "IOPRIO_CLASS_BE"):
            levels = [each.ionice() for each in (process, renderer)]
            assert levels == [(psutil.IOPRIO_CLASS_BE, IO_LEVEL)] * 2
    finally:
        await runner.stop()
