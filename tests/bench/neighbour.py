"""A busy process beside the servers, as a compiler would be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LIFE_S = 60.0  # after which the process ends by itself
BUSY = """
import os, sys, time
os.nice(int(sys.argv[1]))
print(flush=True)
end_s = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end_s:
    pass
"""


@contextmanager
def busy_neighbour(nice: int) -> Iterator[None]:
    """One process that computes all the time while the block lasts.

    It shares our session, as both servers do: Linux may divide the CPU by session first
    (autogroup), and niceness counts only within one.
    """
    command = [sys.executable, "-S", "-c", BUSY, str(nice), str(LIFE_S)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield
        finally:
            process.kill()
