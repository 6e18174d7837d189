"""`outrider top` in a terminal of 80 columns and 24 lines, against a running daemon."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from daemons import Daemon

pytestmark = pytest.mark.contract

COLUMNS, LINES = 80, 24
PATIENCE_S = 20.0
ENTER, LEAVE, FRAME = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[H"


def read_until(keys: int, seen: bytes, text: bytes, count: int = 1) -> bytes:
    """What was shown so far, with this text at least `count` times."""
    deadline_s = time.monotonic() + PATIENCE_S
    while seen.count(text) < count:
        ready, _, _ = select.select([keys], [], [], max(0.0, deadline_s - time.monotonic()))
        assert ready, f"waited for {text!r} after {seen!r}"
        seen += os.read(keys, 1 << 16)
    return seen


def test_it_is_shown_each_second_and_q_leaves_the_terminal_as_it_was(daemon: Daemon) -> None:
    keys, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    before = termios.tcgetattr(screen)
    child = subprocess.Popen(
        [sys.executable, "-m", "outrider.daemon", "--host", daemon.url, "top"],
        stdin=screen,
        stdout=screen,
        stderr=screen,
        env={**os.environ, "TERM": "xterm"},
    )
    try:
        seen = read_until(keys, b"", FRAME, count=3)
        os.write(keys, b"q")
        seen = read_until(keys, seen, LEAVE)
        assert child.wait(PATIENCE_S) == 0
        assert termios.tcgetattr(screen) == before
    finally:
        child.kill()
        child.wait()
        os.close(keys)
        os.close(screen)
    assert seen.startswith(ENTER)
    frames = seen.split(FRAME)[1:]
    assert b"Outrider " in frames[0]
    assert b"- tokens/s" in frames[0], "there is no rate yet"
    assert max(frame.count(b"\r\n") for frame in frames) < LINES


def test_once_needs_no_terminal(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "outrider.daemon", "--host", daemon.url, "top", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Outrider ")
