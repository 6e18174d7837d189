"""How does a runner bound the time and the memory that a template takes?"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import threading
import time

import msgspec
import psutil

from ...errors import RenderingKilled, revive
from ...protocol import FrameReader
from .messages import UNCONFINED, RenderReply, RenderRequest, encode

# Seconds that a template may take. The time of a conversation of 100,000 words is 0.1 s (measured).
RENDER_TIMEOUT_S = 2.0
# Seconds that it may take on a machine so busy that it does not get MIN_CPU_S of a core before.
BUSY_TIMEOUT_S = 20.0
MIN_CPU_S = 1.0  # seconds of a core
POLL_S = 0.1  # seconds between two looks at the clock
START_TIMEOUT_S = 60.0  # for the interpreter and its imports: 0.3 s on an idle machine
READ_BYTES = 1 << 16
MODULE = "outrider.daemon.runner.rendering"
TOO_SLOW = "the model's chat template does not come to an end: it was stopped after {:g} s"
DIED = "the model's chat template ended the process that renders it; it may need too much memory"

log = logging.getLogger("outrider.runner")


def is_overdue(took_s: float, cpu_s: float, timeout_s: float) -> bool:
    """Whether a template has had its time: `cpu_s` seconds of a core within `took_s` seconds.

    Templates that hang side by side get a small share of a core each. They are not waited for
    longer than it takes to give each its part.
    """
    return took_s > timeout_s and (cpu_s >= MIN_CPU_S or took_s >= BUSY_TIMEOUT_S)


class RenderProcess:
    """One child that renders; to be used by one thread at a time."""

    def __init__(self, *, confined: bool = True) -> None:
        """Not `confined`: it keeps the rights that it does not need."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *(() if confined else (UNCONFINED,))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._frames = FrameReader()
        self._has_started = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def render(self, request: RenderRequest) -> str:
        """The prompt. Raises RenderingKilled and TemplateFailed; a child that failed is gone."""
        try:
            if not self._has_started:
                self._read(
                    START_TIMEOUT_S
                )  # an empty reply, so that the start counts for no template
                self._has_started = True
            self._write(encode(request))
            reply = msgspec.msgpack.decode(self._read(RENDER_TIMEOUT_S), type=RenderReply)
        except BaseException:
            self.stop()
            raise
        if reply.kind:
            raise revive(reply.kind, reply.text)
        return reply.text

    def stop(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._process.stdin.fileno(), view) :]
        except BrokenPipeError:
            raise self._death() from None

    def _read(self, timeout_s: float) -> bytes:
        """The body of the reply. Raises RenderingKilled after the timeout, later on a busy one."""
        assert self._process.stdout
        out = self._process.stdout.fileno()
        start_s, start_cpu_s = time.monotonic(), self._cpu_s()
        while True:
            if select.select([out], [], [], POLL_S)[0]:
                data = os.read(out, READ_BYTES)
                if not data:
                    raise self._death()
                bodies = list(self._frames.feed(data))
                if bodies:
                    return bodies[0]
            took_s, cpu_s = time.monotonic() - start_s, self._cpu_s() - start_cpu_s
            if is_overdue(took_s, cpu_s, timeout_s):
                log.warning("a chat template was stopped after %.1f s", took_s)
                raise RenderingKilled(TOO_SLOW.format(timeout_s))

    def _cpu_s(self) -> float:
        """Seconds of a core that the child has used."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _death(self) -> RenderingKilled:
        log.warning("the process that renders templates ended with %d", self._process.wait())
        return RenderingKilled(DIED)


class RenderPool:
    """A `Render`: a template that hangs delays no request that another child can render."""

    def __init__(self, size: int, *, confined: bool = True) -> None:
        """`size`: children at most; the first one starts now, beside the load of the weights."""
        self._confined = confined
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle = [RenderProcess(confined=confined)]

    def __call__(self, request: RenderRequest, /) -> str:
        with self._free:
            process = self._take()
            try:
                return process.render(request)
            finally:
                if process.is_alive:
                    with self._lock:
                        self._idle.append(process)

    def close(self) -> None:
        """End the children that are idle."""
        with self._lock:
            while self._idle:
                self._idle.pop().stop()

    def _take(self) -> RenderProcess:
        """The child that rendered last, so that its templates are compiled."""
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
        return RenderProcess(confined=self._confined)
