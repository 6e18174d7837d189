"""How a wheel is downloaded: by pip, so that the user's index, proxy and certificates apply."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from ..errors import PullFailed
from ..scratch import ScratchFolder

_POLL_S = 0.1  # seconds between two looks at the size of the download


async def download(requirement: str, scratch: ScratchFolder) -> AsyncGenerator[int, None]:
    """Downloads the wheel of `requirement` into `scratch`; yields the bytes received so far.

    Closing the generator stops pip. Raises PullFailed with pip's own reason.
    """
    pip = await _start(requirement, scratch)
    pipes = asyncio.create_task(pip.communicate())
    try:
        arrived = -1
        while not pipes.done():
            before, arrived = arrived, max(arrived, _largest_bytes(scratch.path))
            if arrived > before:
                yield arrived
            await asyncio.wait({pipes}, timeout=_POLL_S)
        _, errors = pipes.result()
    finally:
        await _stop(pip, pipes)
    if pip.returncode != 0:
        raise PullFailed(_reason(requirement, errors.decode(errors="replace")))


def downloaded(scratch: ScratchFolder) -> Path:
    """The wheel that `download` has stored."""
    (wheel,) = _target(scratch).glob("*.whl")
    return wheel


def _target(scratch: ScratchFolder) -> Path:
    return scratch.path / "wheel"


async def _start(requirement: str, scratch: ScratchFolder) -> Process:
    """pip in its own process group; it holds the lock of the folder even if this process dies."""
    quiet = ("--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "pip", "download", *quiet),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(_target(scratch)), requirement),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env=os.environ | {"TMPDIR": str(scratch.path)},
        start_new_session=True,
        pass_fds=(scratch.lock,),
    )


async def _stop(pip: Process, pipes: "asyncio.Task[tuple[bytes, bytes]]") -> None:
    """Kills pip if it still runs; its files are removed with the scratch folder."""
    if pip.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(pip.pid, signal.SIGKILL)
    await pipes


def _largest_bytes(folder: Path) -> int:
    """The size of the largest file below `folder`, which is the growing wheel."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # pip moves its files
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
    return max(sizes)


def _reason(requirement: str, errors: str) -> str:
    if "No module named pip" in errors:
        return f"pip is missing: run `{sys.executable} -m ensurepip`, then pull again"
    lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["it gave no reason"]
    stated = [line for line in lines if line.startswith("ERROR:")] or lines
    reason = stated[-1].removeprefix("ERROR:").strip()
    advice = "check the network and the package index (`pip config list`), then pull again"
    return f"pip could not download {requirement}: {reason}; {advice}"
