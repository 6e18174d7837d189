"""How do tests kill a process at a random moment of its work, hundreds of times?

A nursery has imported everything that the work needs. For each order it forks a child, which does
the work; the test kills that child with SIGKILL.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from outrider.models.create import create
from outrider.models.create_spec import CreateSpec
from outrider.models.name import Name
from outrider.models.sources.catalog import CatalogEntry
from outrider.models.sources.wheel import pull
from outrider.models.store import Store
from weights import add_file

KILLED = b"killed\n"
Order = Mapping[str, str]


@dataclass(frozen=True)
class Nursery:
    """A process that forks victims."""

    process: subprocess.Popen[bytes]

    def run(self, order: Order) -> float:
        """Seconds that the work takes when nobody disturbs it."""
        pid, start_s = self._start(order), time.perf_counter()
        self._send(b"\n")
        assert self._read() == 0, f"{order} failed in process {pid}"
        return time.perf_counter() - start_s

    def kill(self, order: Order, after_s: float) -> bool:
        """Kills the work after that time; returns whether it had not ended yet."""
        pid = self._start(order)
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)  # nobody has waited for it, so the id is its own
        self._send(KILLED)
        code = self._read()
        assert code in (0, -signal.SIGKILL), f"{order} failed"
        return code != 0

    def _start(self, order: Order) -> int:
        self._send(json.dumps(dict(order)).encode() + b"\n")
        return self._read()

    def _send(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def _read(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())


@contextmanager
def start_nursery(env: Mapping[str, str]) -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **env},
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    try:
        yield Nursery(process)
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


def _create(store: Store, order: Order) -> None:
    async def run() -> None:
        blob = add_file(store, Path(order["file"]))
        name = Name.parse(order["model"])
        async for _ in create(store, CreateSpec(name=name, files={"a.gguf": blob.digest})):
            pass

    asyncio.run(run())


def _pull(store: Store, order: Order) -> None:
    entry = msgspec.json.decode(order["entry"], type=CatalogEntry)

    async def run() -> None:
        async for _ in pull(store, entry.name, catalog=[entry]):
            pass

    asyncio.run(run())


def _copy(store: Store, order: Order) -> None:
    store.copy(Name.parse(order["source"]), Name.parse(order["model"]))


def _delete(store: Store, order: Order) -> None:
    store.delete(Name.parse(order["model"]))


WORK: Mapping[str, Callable[[Store, Order], None]] = {
    "pull": _pull,
    "create": _create,
    "copy": _copy,
    "delete": _delete,
}


def _serve() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            WORK[order["work"]](Store(Path(order["store"])), order)
            os._exit(0)
        print(pid, flush=True)
        sys.stdin.readline()  # killed, or left alone
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
