"""Busy processes beside the servers, as a compiler would be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

LIFE_S = 60.0  # after which the process ends by itself
BUSY = """
import os, sys, time
os.nice(int(sys.argv[1]))
print(flush=True)
end_s, pause_s = time.monotonic() + float(sys.argv[2]), float(sys.argv[3])
while time.monotonic() < end_s:
    until_s = min(end_s, time.monotonic() + pause_s) if pause_s else end_s
    while time.monotonic() < until_s:
        pass
    time.sleep(pause_s)
"""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Busy processes."""

    title: str
    count: int = 1
    nice: int = 0
    pause_s: float = 0.0  # by turns each computes and sleeps for so long; 0: it never sleeps


NEIGHBOURHOODS = {
    "19": Neighbourhood("neighbour at nice 19", nice=19),
    "0": Neighbourhood("neighbour at nice 0"),
    "two": Neighbourhood("two neighbours at nice 0", count=2),
    "comes": Neighbourhood("neighbour, 1 s on, 1 s off", pause_s=1.0),
}


@contextmanager
def busy_neighbours(kind: Neighbourhood) -> Iterator[None]:
    """These processes run while the block lasts.

    They share our session, as both servers do: Linux may divide the CPU by session first
    (autogroup), and niceness counts only within one.
    """
    with ExitStack() as stack:
        for _ in range(kind.count):
            stack.enter_context(_busy_process(kind))
        yield


@contextmanager
def _busy_process(kind: Neighbourhood) -> Iterator[None]:
    words = (str(kind.nice), str(LIFE_S), str(kind.pause_s))
    command = [sys.executable, "-S", "-c", BUSY, *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield
        finally:
            process.kill()
