"""How do tests give a daemon a disk that is small, read-only, or slow? In a mount namespace."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from daemons import READY, Daemon
from long.processes import wait_until

READY_S = 60.0
# Of fanotify(7): permission is asked for before a file is opened or read.
CLASS_CONTENT, MARK_ADD, MARK_MOUNT = 0x4, 0x1, 0x10
ASKS = 0x10000 | 0x20000  # FAN_OPEN_PERM, FAN_ACCESS_PERM
ALLOW = 1
EVENT = struct.Struct("=IBBHQii")
ANSWER = struct.Struct("=iI")


def require_mounts() -> None:
    """Skips the test where no file systems may be mounted."""
    if not shutil.which("unshare"):
        pytest.skip("no unshare")
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted in a namespace here")


@contextlib.contextmanager
def daemon_on(
    mounts: str, root: Path, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """A daemon that sees what these shell commands mount; its files are below /proc/PID/root."""
    serve = shlex.join([sys.executable, "-m", "outrider.daemon", "serve", "--port", "0"])
    log = folder / "daemon.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", f"{mounts}\nexec {serve}"],
            env={
                **{name: value for name, value in os.environ.items() if "OUTRIDER_" not in name},
                "OUTRIDER_MODELS": str(root),
                "XDG_CACHE_HOME": str(folder / "cache"),
                **(env or {}),
            },
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        assert wait_until(lambda: bool(READY.search(log.read_text())), READY_S) is not None, (
            log.read_text()
        )
        found = READY.search(log.read_text())
        assert found
        yield Daemon(found[1], process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
    assert code == 0, log.read_text()


def seen_by(daemon: Daemon, path: Path) -> Path:
    """The path as the daemon sees it."""
    return Path(f"/proc/{daemon.process.pid}/root{path}")


@dataclass
class SlowDisk:
    """Each open and each read of a file waits for `delay_s`, one after the other."""

    descriptor: int
    delay_s: float = 0.0
    num_waits: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def hang(self) -> None:
        """From now on nothing is answered, until `go_on`."""
        self.released.clear()

    def go_on(self) -> None:
        self.released.set()

    def serve(self) -> None:
        """Answers until the descriptor is closed."""
        while True:
            try:
                data = os.read(self.descriptor, 1 << 16)
            except OSError:
                return
            while data:
                size, _, _, _, _, descriptor, _ = EVENT.unpack_from(data)
                data = data[size:]
                self.released.wait()
                time.sleep(self.delay_s)
                self.num_waits += 1
                with contextlib.suppress(OSError):
                    os.write(self.descriptor, ANSWER.pack(descriptor, ALLOW))
                os.close(descriptor)


@contextlib.contextmanager
def slow_disk(mount: Path) -> Iterator[SlowDisk]:
    """The mount on which that path lies becomes slow. The test itself must not read from it."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.fanotify_init(CLASS_CONTENT | os.O_NONBLOCK * 0, os.O_RDONLY)
    if descriptor < 0:
        pytest.skip(f"no fanotify: {os.strerror(ctypes.get_errno())}")
    marked = libc.fanotify_mark(
        descriptor, MARK_ADD | MARK_MOUNT, ctypes.c_uint64(ASKS), -100, os.fsencode(mount)
    )
    if marked:
        os.close(descriptor)
        pytest.skip(f"fanotify asks for no permission: {os.strerror(ctypes.get_errno())}")
    disk = SlowDisk(descriptor)
    disk.go_on()
    thread = threading.Thread(target=disk.serve, daemon=True)
    thread.start()
    try:
        yield disk
    finally:
        disk.delay_s = 0.0
        disk.go_on()
        time.sleep(0.2)
        os.close(descriptor)  # what still waits is let through by the kernel
