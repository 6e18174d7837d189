"""How the front drives one runner process: start, submit, cancel, exit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Self

import msgspec

from ..errors import LoadFailed, OutriderError, RunnerDied, revive
from ..protocol import (
    Cancel,
    Delta,
    Embed,
    Embedded,
    Failed,
    FrameReader,
    Load,
    Loading,
    Ready,
    Stats,
    Step,
    Submit,
    ToFront,
    encode,
)

LOAD_STALL_S = 300.0  # seconds without progress (CONTRACT 4, OLLAMA_LOAD_TIMEOUT)
EXIT_S = 5.0  # seconds to exit by itself, before it is killed
MAX_LINE_BYTES = 1 << 20  # of the runner's stderr
READ_BYTES = 1 << 18  # of the socket, at a time
STDERR_LINES = 20  # kept for the error text after an exit
DIED = (  # CONTRACT 1.4
    "model runner has unexpectedly stopped, this may be due to resource limitations or an "
    "internal error, check ollama server logs for details"
)

RUNNER_ENV = {
    "GGML_NO_BACKTRACE": "1",  # GUIDE 10.1
    # Rounds that an OpenMP thread spins at each of the hundreds of barriers of a token, before it
    # sleeps. GNU's default is 300,000. The figure matters only for threads that share a core.
    "GOMP_SPINCOUNT": "10000",
    # Huge pages for what glibc takes from the system: weights that are read, KV cache, buffers.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# One OpenMP thread per physical core. Beside a busy process the kernel would otherwise move two of
# them to one core, where each barrier costs a whole spin: 32 instead of 85 tokens/s (SmolLM2 135M,
# 2 cores, one busy neighbour).
BINDING_ENV = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
LEVELS = {"ERROR": logging.ERROR, "WARNING": logging.WARNING}  # first words of a runner's log lines
FATAL = "Fatal Python error"  # the first words of a report of faulthandler

log = logging.getLogger(__name__)


class ResponseQueue:
    """The responses to one request."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Delta | Embedded | OutriderError] = asyncio.Queue()
        self.is_finished = False

    def put(self, item: Delta | Embedded | OutriderError) -> None:
        self._queue.put_nowait(item)

    async def get(self) -> Delta | Embedded:
        """The next response. Raises the error that the runner has sent instead."""
        item = await self._queue.get()
        self.is_finished = not isinstance(item, Delta) or item.done is not None
        if isinstance(item, OutriderError):
            raise item
        return item


class RunnerProcess:
    """A process with a loaded model; `start` creates it, `stop` ends it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._responses: dict[int, ResponseQueue] = {}
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._tasks = [asyncio.create_task(self._read_stderr())]
        self._stopping: asyncio.Task[None] | None = None
        self.ready = Ready(0, 0)
        self.stats = Stats()
        self.is_alive = True

    @classmethod
    async def start(cls, load: Load) -> Self:
        """Start a process that loads the model. Raises LoadFailed, and then leaves none behind."""
        runner = await cls._spawn(load)
        try:
            await runner._load(load)
        except BaseException:
            await runner.stop()
            raise
        runner._tasks.append(asyncio.create_task(runner._deliver()))
        return runner

    @classmethod
    async def _spawn(cls, load: Load) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "outrider.daemon.runner", str(theirs.fileno())),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    limit=MAX_LINE_BYTES,
                    # A group of its own: Ctrl-C in a terminal reaches the front alone. A session
                    # of its own would also be a scheduling group of its own on Linux (autogroup),
                    # in which a neighbour at nice 19 gets as much time as the runner.
                    process_group=0,
                    env=_environment(load),
                )
            except BaseException:
                writer.close()
                raise
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def submit(self, request: Submit) -> AsyncGenerator[Delta, None]:
        """See Runner.submit."""
        with self._send(request) as responses:
            while not responses.is_finished:
                delta = await responses.get()
                assert isinstance(delta, Delta)
                yield delta

    async def embed(self, request: Embed) -> Embedded:
        """See Runner.embed."""
        with self._send(request) as responses:
            embedded = await responses.get()
            assert isinstance(embedded, Embedded)
            return embedded

    @contextlib.contextmanager
    def _send(self, request: Submit | Embed) -> Iterator[ResponseQueue]:
        """Send a request under a unique id; leaving the block before its end cancels it."""
        if not self.is_alive:
            raise RunnerDied(self._exit_reason())
        request = msgspec.structs.replace(request, id=next(self._ids))
        responses = self._responses[request.id] = ResponseQueue()
        try:
            self._write(encode(request))
            yield responses
        finally:
            del self._responses[request.id]
            if not responses.is_finished:
                self._write(encode(Cancel(request.id)))

    async def stop(self) -> None:
        """Close the socket, upon which the process exits; kill it after EXIT_S.

        Any number of callers may await this. The cancellation of one does not stop it.
        """
        self.is_alive = False
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        try:
            await asyncio.wait_for(self._process.wait(), EXIT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._tasks)
        self._fail_all()

    def _write(self, frame: bytes) -> None:
        if self.is_alive:
            self._writer.write(frame)

    async def _load(self, load: Load) -> None:
        self._writer.write(encode(load))
        messages = self._messages()
        while True:
            try:
                message = await asyncio.wait_for(anext(messages), LOAD_STALL_S)
            except TimeoutError:
                raise LoadFailed("timed out waiting for the model to load") from None
            except StopAsyncIteration:
                raise LoadFailed(await self._died_loading()) from None
            if isinstance(message, Failed):
                raise revive(message.kind, message.text)
            if isinstance(message, Ready):
                self.ready = message
                return
            assert isinstance(message, Loading)

    async def _messages(self) -> AsyncIterator[ToFront]:
        """The runner's messages, until its socket closes."""
        frames = FrameReader()
        decoder: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(READ_BYTES):
                for body in frames.feed(data):
                    yield decoder.decode(body)

    async def _deliver(self) -> None:
        """Pass responses to their requests; when the socket closes, fail all that are left."""
        cause = ""
        async for message in self._messages():
            if isinstance(message, Step):
                self.stats = message.stats or self.stats
                for delta in message.deltas:
                    self._put(delta.id, delta)
            elif isinstance(message, Embedded):
                self._put(message.id, message)
            elif isinstance(message, Failed) and message.id is not None:
                self._put(message.id, revive(message.kind, message.text))
            elif isinstance(message, Failed):
                cause = message.text
        if self.is_alive:
            await self._report_exit(cause)

    def _put(self, request_id: int, item: Delta | Embedded | OutriderError) -> None:
        if responses := self._responses.get(request_id):
            responses.put(item)

    async def _report_exit(self, cause: str) -> None:
        self.is_alive = False
        code = await self._exit_code()
        if cause:
            self._stderr.append(cause)
        log.error("runner %d ended with status %s: %s", self.pid, code, self._stderr_end() or "-")
        self._fail_all()

    def _fail_all(self) -> None:
        for responses in self._responses.values():
            responses.put(RunnerDied(self._exit_reason()))

    def _exit_reason(self) -> str:
        end = self._stderr_end()
        return f"{DIED}: {end}" if end else DIED

    async def _died_loading(self) -> str:
        code = await self._exit_code()
        return f"llama-server process has terminated: {_exit_text(code)}: {self._stderr_end()}"

    async def _exit_code(self) -> int:
        """The exit status, once all of stderr is read."""
        await asyncio.wait(self._tasks[:1])
        return await self._process.wait()

    def _stderr_end(self) -> str:
        """The last line of stderr; before a fatal error also the one that may state its cause."""
        lines = list(self._stderr)
        is_fatal = bool(lines) and lines[-1].startswith(FATAL)
        return "; ".join(lines[-2:] if is_fatal else lines[-1:])

    async def _read_stderr(self) -> None:
        """Log the runner's stderr, and keep its end for the error text."""
        assert self._process.stderr
        while line := await self._process.stderr.readline():
            text = line.decode("utf-8", "replace").rstrip()
            level = LEVELS.get(text.partition(" ")[0], logging.DEBUG)
            log.log(level, "runner %d: %s", self.pid, text)
            if not (self._stderr and self._stderr[-1].startswith(FATAL)):  # the stack follows
                self._stderr.append(text)


def _environment(load: Load) -> dict[str, str]:
    """What the user has set counts more than our own."""
    return {**RUNNER_ENV, **(BINDING_ENV if load.bind_threads else {}), **os.environ}


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
