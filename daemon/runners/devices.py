"""Which GPUs does llama.cpp see, and what is free of the machine's memory right now?

llama.cpp is not loaded into the front: a short child process asks it and prints JSON. Where the
first answer names no GPU, no child is started again.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec

from .budget import memory_for
from .machine import Gpu, Machine, read_available, read_machine

PROBE = "outrider.daemon.runner.devices"  # prints JSON with an array `gpus`, each a `Gpu`
PROBE_TIMEOUT_S = 30.0  # a cold start of a CUDA driver takes seconds

ReadGpus = Callable[[], Awaitable[tuple[Gpu, ...]]]
ReadMachine = Callable[[], Awaitable[Machine]]
"""The machine as it is now."""

log = logging.getLogger(__name__)


class GpuAnswer(msgspec.Struct, frozen=True):
    """The part of the probe's answer that plans need."""

    gpus: tuple[Gpu, ...]


class MachineReader:
    """Reads the machine; what does not change is read once."""

    def __init__(self, machine: Machine, read_gpus: ReadGpus) -> None:
        """`machine`: with the GPUs of the first answer."""
        self.machine = machine
        self._read_gpus = read_gpus

    @classmethod
    async def start(
        cls, read_gpus: ReadGpus | None = None, *, limit_bytes: int = 0
    ) -> MachineReader:
        """A reader that knows which GPUs there are.

        `limit_bytes`: of the host, for all models together; 0: what plans leave to other programs.
        """
        read_gpus = read_gpus or probe_gpus
        gpus, machine = await asyncio.gather(read_gpus(), asyncio.to_thread(read_machine))
        return cls(replace(limit_memory(machine, limit_bytes), gpus=gpus), read_gpus)

    async def read(self) -> Machine:
        """The machine with the memory that is free now.

        GPUs keep their last figures where they cannot be read.
        """
        gpus = self.machine.gpus and (await self._read_gpus() or self.machine.gpus)
        self.machine = replace(self.machine, available_bytes=read_available(), gpus=gpus)
        return self.machine


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
