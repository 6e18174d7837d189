"""Which GPUs does llama.cpp see, and what is free of the machine's memory right now?

llama.cpp is not loaded into the front: a short child process asks it and prints JSON. Where the
first answer names no GPU, no child is started again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import msgspec

from .budget import memory_for
from .machine import Gpu, Machine, read_available, read_machine

PROBE = "outrider.daemon.runner.devices"  # prints JSON with an array `gpus`, each a `Gpu`
PROBE_TIMEOUT_S = 30.0  # a cold start of a CUDA driver takes seconds
FRESH_S = 10.0  # so long after the start the first answer serves the first load

ReadGpus = Callable[[], Coroutine[Any, Any, tuple[Gpu, ...]]]
ReadMachine = Callable[[], Awaitable[Machine]]
"""The machine as it is now."""

log = logging.getLogger(__name__)


class GpuAnswer(msgspec.Struct, frozen=True):
    """The part of the probe's answer that plans need."""

    gpus: tuple[Gpu, ...]


class MachineReader:
    """Reads the machine; what does not change is read once."""

    def __init__(self, machine: Machine, read_gpus: ReadGpus) -> None:
        """Starts to look for GPUs, which nobody waits for before the first load."""
        self.machine = machine  # without GPUs until the first `read`
        self._read_gpus = read_gpus
        self._first = asyncio.create_task(read_gpus())
        self._fresh_until_s = time.monotonic() + FRESH_S

    @classmethod
    async def start(
        cls, read_gpus: ReadGpus | None = None, *, limit_bytes: int = 0
    ) -> MachineReader:
        """A reader of this machine.

        `limit_bytes`: of the host, for all models together; 0: what plans leave to other programs.
        """
        machine = limit_memory(await asyncio.to_thread(read_machine), limit_bytes)
        return cls(machine, read_gpus or probe_gpus)

    async def read(self) -> Machine:
        """The machine with the memory that is free now.

        GPUs keep their last figures where they cannot be read.
        """
        first = await asyncio.shield(self._first)
        gpus = self.machine.gpus or first
        if first and time.monotonic() > self._fresh_until_s:
            gpus = await self._read_gpus() or gpus
        self._fresh_until_s = -math.inf
        self.machine = replace(self.machine, available_bytes=read_available(), gpus=gpus)
        return self.machine

    async def close(self) -> None:
        """End a probe that has not answered yet."""
        self._first.cancel()
        await asyncio.wait([self._first])


def limit_memory(machine: Machine, limit_bytes: int) -> Machine:
    """The machine as if so many bytes were its share for models; 0: as it is."""
    least_bytes = min(machine.memory_bytes, memory_for(limit_bytes))
    return replace(machine, memory_bytes=least_bytes) if limit_bytes else machine


async def read_host() -> Machine:
    """The machine as it is now, without its GPUs."""
    return replace(read_machine(), available_bytes=read_available())


async def probe_gpus(module: str = PROBE) -> tuple[Gpu, ...]:
    """The GPUs, from a child process; none where it fails, which is logged."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            out, err = await process.communicate()
        return parse_gpus(out)
    except (TimeoutError, msgspec.DecodeError) as error:
        said = "" if isinstance(error, TimeoutError) else err.decode("utf-8", "replace")[-300:]
        log.warning("the GPUs cannot be read: %s %s", str(error) or "no answer", said.strip())
        return ()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def parse_gpus(text: bytes) -> tuple[Gpu, ...]:
    """The GPUs that the probe has printed. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=GpuAnswer).gpus
