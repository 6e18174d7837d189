"""How is the peer built: llama-server, once, from the source of the installed package?

The sdist of llama-cpp-python holds the very llama.cpp that Outrider decodes with, so with the same
flags both run the same kernels (GUIDE 12.4).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from outrider.models.lock import locked

from .failure import BenchFailed

PACKAGE = "llama-cpp-python"
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\]")
SHOWN_LINES = 15  # of the output of a failed command


def ensure_peer(cache: Path) -> Path:
    """The llama-server of the installed version; built now if need be. Raises BenchFailed.

    CMAKE_ARGS applies to the peer as to the installation of Outrider. Each value has a build folder
    of its own, because CMake keeps the flags of the last configuration.
    """
    folder = cache / "peer" / version(PACKAGE)
    folder.mkdir(parents=True, exist_ok=True)
    own = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    suffix = f"-{hashlib.sha256(shlex.join(own).encode()).hexdigest()[:8]}" if own else ""
    flags = (*FLAGS, *own)
    build, stamp = folder / f"build{suffix}", folder / f"flags{suffix}"
    binary = build / "bin/llama-server"
    with locked(folder):
        if not binary.exists() or _read(stamp) != shlex.join(flags):
            stamp.unlink(missing_ok=True)
            _build(_source(folder), build, flags)
            stamp.write_text(shlex.join(flags))
    return binary


def _source(folder: Path) -> Path:
    """The unpacked sdist."""
    target = folder / "source"
    if target.exists():
        return target
    pinned = f"{PACKAGE}=={version(PACKAGE)}"
    print(f"fetching the source of {pinned}", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--no-binary", PACKAGE, "--dest", str(folder), pinned], folder / "download.log")
    archive = next(folder.glob("*.tar.gz"))
    fresh = folder / "unpacked"
    shutil.rmtree(fresh, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(fresh, filter="data")
    next(fresh.iterdir()).rename(target)
    fresh.rmdir()
    archive.unlink()
    return target


def _build(source: Path, build: Path, flags: Sequence[str]) -> None:
    cmake, ninja = _tool("cmake"), _tool("ninja")
    log = build.with_suffix(".log")
    print("building llama-server; about 10 minutes on 2 cores, once", file=sys.stderr)
    places = ["-S", str(source / "vendor/llama.cpp"), "-B", str(build)]
    _run([cmake, *places, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *flags], log)
    jobs = str(os.cpu_count() or 1)
    _run([cmake, "--build", str(build), "-j", jobs, "--target", "llama-server"], log)


def _tool(name: str) -> str:
    """A build tool from the PATH, or the one of the `bench` extra beside this Python."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise BenchFailed(
            f"{name} is not installed; `make bench` installs it, or: pip install {name}"
        )
    return found


def _run(command: Sequence[str], log: Path) -> None:
    """Runs a command, shows its progress, and keeps its output in `log`. Raises BenchFailed."""
    last: deque[str] = deque(maxlen=SHOWN_LINES)
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            out.write(line)
            last.append(line)
            _show(line)
    if process.returncode:
        output = "".join(last)
        raise BenchFailed(f"{shlex.join(command[:2])} failed; the end of {log}:\n{output}")


def _show(line: str) -> None:
    if step := NINJA_STEP.match(line):
        end = "\n" if step[1] == step[2] else ""
        print(f"\r  {step[1]} of {step[2]}", end=end, file=sys.stderr, flush=True)


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
