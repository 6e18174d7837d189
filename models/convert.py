"""How does a model in safetensors become a GGUF file: by llama.cpp's converter, if it is there."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from .errors import CreateRefused
from .scratch import scratch

# Names under which packages and checkouts of llama.cpp install it.
COMMANDS: Final = (
    "convert_hf_to_gguf.py",
    "convert_hf_to_gguf",
    "convert-hf-to-gguf",
    "llama-convert-hf-to-gguf",
)
# What a checkpoint consists of. Python files are left out: the converter would execute them.
SUFFIXES: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")
MISSING: Final = (
    "converting safetensors needs llama.cpp's convert_hf_to_gguf.py: install it with its "
    "requirements (torch, transformers, sentencepiece, gguf) and put it in the PATH of the daemon, "
    "or create the model from a GGUF file"
)
LOG_BYTES: Final = 4096  # of the end of its log, where the reason of a failure stands


@dataclass(frozen=True, slots=True)
class Converter:
    """The command that converts."""

    command: str

    async def run(self, files: Mapping[str, Path], target: Path, root: Path) -> None:
        """Writes the GGUF file `target`. Raises CreateRefused with the converter's last line.

        The files are linked into a folder below `root` under the names that their user gave.
        """
        with scratch(root) as folder:
            checkpoint = folder.path / "checkpoint"
            _link(files, checkpoint)
            log = folder.path / "log"
            words = (self.command, str(checkpoint), "--outfile", str(target))
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "HF_HUB_OFFLINE": "1"},  # it fetches and executes nothing
                    pass_fds=(folder.lock,),
                    start_new_session=True,
                )
            await _wait(process)
            if process.returncode:
                raise CreateRefused(f"the model cannot be converted: {_last_line(log)}")


def find_converter() -> Converter:
    """The converter of this machine; raises CreateRefused with what to install."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = (shutil.which(name, path=path) for name in COMMANDS)
    command = next((command for command in found if command), None)
    if command is None:
        raise CreateRefused(MISSING)
    return Converter(command)


async def _wait(process: asyncio.subprocess.Process) -> None:
    """Waits for the end; ends the process and its children if this is cancelled."""
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _link(files: Mapping[str, Path], folder: Path) -> None:
    for name, path in files.items():
        if not name.endswith(SUFFIXES):
            continue
        link = folder / PurePosixPath(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-LOG_BYTES:].decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it says no reason")
