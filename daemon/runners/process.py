"""One runner process as the front sees it: start, submit, cancel, death."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from functools import partial
from os.path import exists
from typing import Self

import msgspec
import psutil

from .. import protocol
from ..errors import LoadFailed, NotFound, OutriderError, RunnerDied, revive
from ..protocol import (
    Delta,
    Embed,
    Embedded,
    Failed,
    Load,
    Ready,
    Stats,
    Step,
    Submit,
    ToFront,
    Working,
)
from .response_queue import ResponseQueue
from .stderr_lines import stderr_lines
from .turnstile import Turn, Turnstile
from .watchdog import Patience, ProgressWatch

STALLED = "timed out waiting for llama-server to start - {}"  # CONTRACT 5.3
EXIT_S = 1.0  # seconds that a runner gets to end by itself; it takes milliseconds
# Seconds that a killed runner gets to be gone. One that waits for a driver or a disk that does not
# answer stays for as long as that takes; nobody waits for it.
KILL_S = 10.0
LATE_S = 2.0  # a look at the clock that comes so much too late: the front stood still itself
HUNG = "the runner gave no sign of progress for {:.0f} s and was ended"
STOPPED = "the process was stopped by a signal"
DIED = (  # CONTRACT 1.4
    "model runner has unexpectedly stopped, this may be due to resource limitations or an "
    "internal error, check ollama server logs for details"
)
KILLED = "the system or its user ended it; Linux does so when its memory is used up (dmesg tells)"
SILENT = "it said nothing about the reason"

RUNNER_ENV = {
    "GGML_NO_BACKTRACE": "1",  # GUIDE 10.1
    # Rounds that an OpenMP thread spins at each of the hundreds of barriers of a token, before it
    # sleeps; GNU's default is 300,000. A longer spin gains nothing on an idle machine, and beside
    # busy threads it takes the core that the awaited thread needs: two runners at a time decode 41
    # instead of 29 tokens/s each with 10,000 (measured as below).
    "GOMP_SPINCOUNT": "1000",
    # Huge pages for what glibc takes from the system: weights that are read, buffers of results
    # (runner/llama/page_size.py).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# One OpenMP thread per physical core. Beside a busy process the kernel would otherwise move two of
# them to one core, where each barrier costs a whole spin: 32 instead of 85 tokens/s (SmolLM2 135M,
# 2 cores, one busy neighbour).
BINDING_ENV = {"OMP_PROC_BIND": "true"}
# Requests that a runner gets for each of its slots: it prepares the next ones while it decodes.
REQUESTS_PER_SLOT = 2
SECRETS = ("OUTRIDER_API_KEY", "OLLAMA_API_KEY", "HF_TOKEN")  # not for who parses models' files
LEVELS = {"ERROR": logging.ERROR, "WARNING": logging.WARNING}  # how a logged line begins
INFO, OF_REQUEST = "INFO ", "INFO request "  # of these lines only the second kind may say why
FATAL = "Fatal Python error"  # how faulthandler begins

DELETED = "the model was deleted before it was loaded"

log = logging.getLogger(__name__)


def runner_environment(binding: Mapping[str, str]) -> dict[str, str]:
    """The variables of a runner's process; those that the user has set win."""
    inherited = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return {**RUNNER_ENV, **binding, **inherited}


async def _deltas(inbox: ResponseQueue) -> AsyncGenerator[Delta, None]:
    while not inbox.is_finished:
        delta = await inbox.get()
        assert isinstance(delta, Delta)
        yield delta


class RunnerProcess:
    """A runner that is up; `start` makes one, `stop` ends it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        patience: Patience,
        turnstile: Turnstile,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._turnstile = turnstile
        self._ids = itertools.count(1)
        self._inboxes: dict[int, ResponseQueue] = {}
        self._stderr: deque[str] = deque(maxlen=20)
        self._tasks = [asyncio.create_task(self._keep_stderr())]
        self._stopping: asyncio.Task[None] | None = None
        self.ready = Ready(0, 0)
        self.stats = Stats()
        self.is_alive = True
        self._watch = ProgressWatch(patience)
        self._look_timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(
        cls,
        load: Load,
        *,
        stall_s: float = math.inf,
        queue_s: float = math.inf,
        patience: Patience | None = None,
    ) -> Self:
        """A runner with its model loaded; `stall_s`: how long that may go without progress;
        `queue_s`: how long a request may wait for a slot; `patience`: how long the runner may be
        silent over its work.

        Raises LoadFailed, and NotFound for a model that was deleted meanwhile; leaves no process
        behind then.
        """
        turnstile = Turnstile(REQUESTS_PER_SLOT * load.slots, queue_s)
        child = await cls._spawn(load, patience or Patience(), turnstile)
        try:
            await child._load(load, stall_s)
        except BaseException as error:
            await child.stop()
            if isinstance(error, LoadFailed) and not await asyncio.to_thread(exists, load.model):
                raise NotFound(DELETED) from None
            raise
        child._tasks.append(asyncio.create_task(child._deliver()))
        return child

    @classmethod
    async def _spawn(cls, load: Load, patience: Patience, turnstile: Turnstile) -> Self:
        binding = {**BINDING_ENV, "OMP_PLACES": load.places} if load.bind_threads else {}
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "outrider.daemon.runner", str(theirs.fileno())),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    # A group of its own: Ctrl-C in a terminal reaches the front alone. A session
                    # of its own would also be a scheduling group of its own on Linux (autogroup),
                    # in which a neighbour at nice 19 gets as much time as the runner.
                    process_group=0,
                    env=runner_environment(binding),
                )
            except BaseException:
                writer.close()
                raise
        return cls(process, reader, writer, patience, turnstile)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def silent_s(self) -> float:
        """As in the protocol `ReportsProgress`."""
        return self._watch.silent_s(time.monotonic())

    @property
    def overdue_s(self) -> float:
        """As in the protocol `ReportsProgress`."""
        return self._watch.overdue_s(time.monotonic())

    async def submit(self, request: Submit) -> AsyncGenerator[Delta, None]:
        """As in the protocol `Runner`."""
        async with self._turnstile.turn() as turn:
            with self._ask(request, turn) as inbox:
                async for delta in _deltas(inbox):
                    yield delta

    async def embed(self, request: Embed) -> Embedded:
        """As in the protocol `Runner`."""
        async with self._turnstile.turn() as turn:
            with self._ask(request, turn) as inbox:
                embedded = await inbox.get()
                assert isinstance(embedded, Embedded)
                return embedded

    @contextlib.contextmanager
    def _ask(self, request: Submit | Embed, turn: Turn) -> Iterator[ResponseQueue]:
        """Send a request under a fresh id; leaving the block before its end cancels it."""
        if not self.is_alive:
            raise self._died()
        request = msgspec.structs.replace(request, id=next(self._ids))
        self._watch_over(request.id)
        hold = partial(self._hold, request.id, turn)
        inbox = self._inboxes[request.id] = ResponseQueue(hold)
        try:
            self._write(protocol.encode(request))
            yield inbox
        finally:
            del self._inboxes[request.id]
            self._cease_to_watch(request.id)
            if not inbox.is_finished:
                self._write(protocol.encode(protocol.Cancel(request.id)))

    def _hold(self, request_id: int, turn: Turn, is_held: bool) -> None:
        """Pause a stream whose client is slow, or let it go on. Others have its slot meanwhile."""
        if is_held:
            self._cease_to_watch(request_id)
            turn.step_aside()
        else:
            self._watch_over(request_id)
            turn.come_back()
        self._write(protocol.encode(protocol.Hold(request_id, is_held)))

    async def stop(self) -> None:
        """End the process: politely by closing its socket, then by force.

        Any number may wait for it; that one of them is cancelled does not keep the process alive.
        """
        self.is_alive = False
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        # Without waiting for frames that a runner which hangs would never read.
        self._writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), EXIT_S)
        self._kill_group()
        try:
            await asyncio.wait_for(self._process.wait(), KILL_S)
        except TimeoutError:
            log.error("runner %d was killed and is not gone: its system hangs", self.pid)
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all()

    def _watch_over(self, request_id: int) -> None:
        """Look at the clock from time to time while there is work, and never without."""
        self._watch.begin(request_id, time.monotonic())
        if self._look_timer is None:
            self._look_again()

    def _cease_to_watch(self, request_id: int) -> None:
        self._watch.end(request_id)
        if self._look_timer and not self._watch.has_work:
            self._look_timer.cancel()
            self._look_timer = None

    def _look_again(self) -> None:
        look_s = self._watch.patience.look_s
        loop = asyncio.get_running_loop()
        self._look_timer = loop.call_later(look_s, self._look, time.monotonic() + look_s)

    def _look(self, planned_s: float) -> None:
        """End the runner if it hangs. While the front itself stood still, in a container that was
        paused for instance, the runner did so, too."""
        now_s = time.monotonic()
        if now_s > planned_s + LATE_S:
            self._watch.forgive(now_s - planned_s)
        if not self._watch.overdue_s(now_s):
            self._look_again()
            return
        self._look_timer = None
        self._stderr.append(HUNG.format(self._watch.silent_s(now_s)))
        log.error("runner %d: %s", self.pid, self._last_lines())
        self.is_alive = False
        self._kill_group()
        self._fail_all()

    def _kill_group(self) -> None:
        """End what is left of the runner's process group: the runner if it hangs or is stopped, and
        its rendering processes, which hold the other end of its stderr."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _write(self, frame: bytes) -> None:
        if self.is_alive:
            self._writer.write(frame)

    async def _load(self, load: Load, stall_s: float) -> None:
        self._writer.write(protocol.encode(load))
        messages = self._messages()
        while True:
            try:
                message = await self._next_while_loading(messages, stall_s)
            except TimeoutError as stall:
                reason = str(stall) or self._last_lines() or "no progress"
                raise LoadFailed(STALLED.format(reason)) from None
            except StopAsyncIteration:
                raise await self._died_loading() from None
            if isinstance(message, Failed):
                raise revive(message.kind, message.text)
            if isinstance(message, Ready):
                self.ready = message
                return
            assert isinstance(message, protocol.Loading)

    async def _next_while_loading(
        self, messages: AsyncIterator[ToFront], stall_s: float
    ) -> ToFront:
        """The next message. Raises TimeoutError after `stall_s` without one, and much earlier if
        the process was stopped, at two looks in a row."""
        patience, was_stopped = self._watch.patience, False
        until_s = time.monotonic() + stall_s
        coming = asyncio.ensure_future(anext(messages))
        try:
            while True:
                left_s = until_s - time.monotonic()
                await asyncio.wait({coming}, timeout=max(0.0, min(left_s, patience.look_s)))
                if coming.done():
                    return coming.result()
                is_stopped = _is_stopped(self.pid)
                if is_stopped and was_stopped:
                    raise TimeoutError(STOPPED)
                if time.monotonic() >= until_s:
                    raise TimeoutError
                was_stopped = is_stopped
        finally:
            coming.cancel()

    async def _messages(self) -> AsyncIterator[ToFront]:
        """The messages of the runner, until its socket closes."""
        frames = protocol.FrameReader()
        decoder: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 18):
                for body in frames.feed(data):
                    self._watch.hear(time.monotonic())
                    yield decoder.decode(body)

    async def _deliver(self) -> None:
        """Put each message into the queue of its request; fail them all when the runner ends."""
        cause = ""
        async for message in self._messages():
            if isinstance(message, Step):
                self._keep_stats(message.stats)
                for delta in message.deltas:
                    self._watch.hear_answer(delta.id)
                    self._put(delta.id, delta)
            elif isinstance(message, Working):
                self._watch.hear_of_work(message, time.monotonic())
            elif isinstance(message, Embedded):
                self._put(message.id, message)
            elif isinstance(message, Failed):
                if message.id is None:
                    cause = message.text
                else:
                    self._put(message.id, revive(message.kind, message.text))
        if not self.is_alive:
            return
        self.is_alive = False
        code = await self._exit_code()
        if cause:
            self._stderr.append(cause)
        log.error("runner %d ended with status %s: %s", self.pid, code, self._last_lines() or "-")
        self._fail_all()

    def _keep_stats(self, stats: Stats | None) -> None:
        """The newest statistics, with the newest detail that was sent."""
        if stats is None:
            return
        stats.detail = stats.detail or self.stats.detail
        self.stats = stats

    def _put(self, request_id: int, item: Delta | Embedded | OutriderError) -> None:
        if inbox := self._inboxes.get(request_id):
            inbox.put(item)

    def _fail_all(self) -> None:
        for inbox in self._inboxes.values():
            inbox.put(self._died())

    def _died(self) -> RunnerDied:
        last = self._last_lines()
        return RunnerDied(f"{DIED}: {last}" if last else DIED)

    async def _died_loading(self) -> LoadFailed:
        code = await self._exit_code()
        status = f"signal {-code}" if code < 0 else f"exit status {code}"
        why = self._last_lines() or (KILLED if code == -signal.SIGKILL else SILENT)
        return LoadFailed(f"llama-server process has terminated: {status}: {why}")

    async def _exit_code(self) -> int:
        """The status of the process, after all of its stderr is read."""
        await asyncio.wait(self._tasks[:1])
        return await self._process.wait()

    def _last_lines(self) -> str:
        """The last line of stderr; after a fatal error also the one before, which may say why."""
        lines = list(self._stderr)
        is_fatal = bool(lines) and lines[-1].startswith(FATAL)
        return "; ".join(lines[-2:] if is_fatal else lines[-1:])

    async def _keep_stderr(self) -> None:
        """Log the stderr of the runner, and keep its end, which may say why the runner died."""
        assert self._process.stderr
        async for text in stderr_lines(self._process.stderr):
            level = LEVELS.get(text.partition(" ")[0], logging.DEBUG)
            log.log(level, "runner %d: %s", self.pid, text)
            after_fatal = self._stderr and self._stderr[-1].startswith(FATAL)  # comes its stack
            is_telling = text.startswith(OF_REQUEST) or not text.startswith(INFO)
            if is_telling and not after_fatal:
                self._stderr.append(text)


def _is_stopped(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
