"""What can the installed llama.cpp do? Asked without importing it.

Backends are libraries of their own, so that names of files tell them. Devices are told by a child
process: a llama.cpp that was built for another processor ends the process that starts it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ..runners.devices import PROBE
from .facts import LlamaBuild, LlamaDevice

PACKAGE = "llama-cpp-python"
LIBRARY = re.compile(r"(?:lib)?ggml-(?P<backend>[a-z]+)(?:-[\w-]+)?\.(?:so|dylib|dll)$")
NO_BACKENDS = {"base"}  # the library that all backends share
PINNED = re.compile(rf"{PACKAGE}\s*==\s*([\w.]+)")
# Of the child; drivers of GPUs take seconds for their first start. A second later it ends itself,
# with a stack instead of a sentence.
TIMEOUT_S = 19.0


class LlamaAnswer(msgspec.Struct, frozen=True):
    """The part of the probe's answer that the doctor needs."""

    devices: tuple[LlamaDevice, ...] = ()
    features: tuple[str, ...] = ()  # of the CPU


def read_llama() -> LlamaBuild:
    """The installed llama.cpp, with its devices."""
    build = read_build()
    if not build.version:
        return build
    command = [sys.executable, "-m", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        failure = f"it found no devices within {TIMEOUT_S:.0f} s"
        return msgspec.structs.replace(build, failure=failure)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        failure = lines[-1] if lines else f"exit status {done.returncode}"
        return msgspec.structs.replace(build, failure=failure, signal=max(0, -done.returncode))
    found = msgspec.json.decode(done.stdout, type=LlamaAnswer)
    return msgspec.structs.replace(build, devices=found.devices, features=found.features)


def read_build() -> LlamaBuild:
    """The installed llama.cpp without its devices: no process is started."""
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        installed = ""
    return LlamaBuild(installed, _required(requires("outrider") or ()), tuple(read_backends()))


def read_backends(folders: Sequence[Path] | None = None) -> Iterator[str]:
    """The backends by the libraries in these folders; by default those of the package."""
    files = [path.name for folder in folders or _package() for path in folder.glob("*ggml-*")]
    names = {match["backend"] for file in files if (match := LIBRARY.search(file))}
    yield from sorted(names - NO_BACKENDS)


def _package() -> list[Path]:
    spec = find_spec("llama_cpp")
    return [Path(each) / "lib" for each in (spec and spec.submodule_search_locations) or ()]


def _required(requirements: Sequence[str]) -> str:
    return next((match[1] for each in requirements if (match := PINNED.match(each))), "")
