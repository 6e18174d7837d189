"""How one file is downloaded: in parallel ranges, resumed after a restart, hashed on the way."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from ..thread import in_thread
from .failures import HttpRefused, Unreachable
from .resumable import Part, ResumableFile
from .retry import RetryPolicy
from .transport import ANONYMOUS, Credentials, HttpClient

Progress = Callable[[int], None]  # gets the number of bytes that have arrived

_WRITE_BYTES: Final = 1 << 20  # collected before they are written
_WRITE_CHUNKS: Final = 512  # likewise; one call takes up to 1024 (POSIX: IOV_MAX)
_WRITE_S: Final = 0.5  # seconds after which fewer are written
_HASH_BYTES: Final = 32 << 20  # hashed before it is asked whether to stop
_FLUSH_BYTES: Final = 64 << 20  # that arrive before they are sent on to the disk
_POLL_S: Final = 0.06  # seconds between two progress lines (CONTRACT 1.16)
_LOCK_POLL_S: Final = 0.25  # seconds between two looks at a file that another process downloads
_LEAST_RATE: Final = 1024.0  # bytes per second; a slower connection counts as stalled


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on another host; its size is asked for if it is None, its digest not checked then."""

    url: str
    digest: str | None = None  # `sha256:<hex>`
    size_bytes: int | None = None
    credentials: Credentials = ANONYMOUS


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """How hard a download tries; a part is one range that a connection fetches at a time."""

    part_bytes: int = 64 << 20
    connections: int = 8
    stall_s: float = 30.0  # without a byte, or with too few, until a connection is given up
    retry: RetryPolicy = field(default_factory=RetryPolicy)


class WrongDigest(Exception):
    """What arrived is not what was promised (both `sha256:<hex>`)."""

    def __init__(self, want: str, got: str) -> None:
        super().__init__(f"digest mismatch, file must be downloaded again: want {want}, got {got}")


class _RangeIgnored(Exception):
    """The host sends the whole file where a range of it was asked for."""


async def download(
    remote: RemoteFile,
    path: Path,
    progress: Progress,
    *,
    is_stored: Callable[[], bool],
    http: Callable[[], HttpClient] = HttpClient,
    policy: DownloadPolicy | None = None,
) -> ResumableFile | None:
    """The finished download of `remote` at `path`, still locked: commit it, then close it.

    Waits while another process downloads it; None if `is_stored` says that nothing is left to do.
    Raises what `fetch` raises; what has arrived is kept then.
    """
    file = await _claim(path)
    try:
        if is_stored():
            file.discard()
            file.close()
            return None
        async with http() as client:
            await fetch(client, remote, file, progress, policy or DownloadPolicy())
    except BaseException:
        file.close()
        raise
    return file


async def _claim(path: Path) -> ResumableFile:
    while True:
        file = ResumableFile.lock(path)
        if file is not None:
            return file
        await asyncio.sleep(_LOCK_POLL_S)  # a lock of another process cannot be awaited


async def fetch(
    http: HttpClient,
    remote: RemoteFile,
    file: ResumableFile,
    progress: Progress,
    policy: DownloadPolicy,
) -> None:
    """Fills `file` and finishes it, so that it can be committed; its `digest` is set then.

    Cancelling keeps what has arrived. Raises HttpRefused, Unreachable, OSError, and WrongDigest,
    after which the file is empty: a content that was resumed is fetched a second time before.
    """
    size_bytes = remote.size_bytes
    if size_bytes is None:
        size_bytes = await policy.retry.run(lambda: _ask_size(http, remote))
    await in_thread(lambda _: file.plan(size_bytes, policy.part_bytes))
    while True:
        resumed = file.was_resumed
        try:
            await _fill(http, remote, file, progress, policy)
        except _RangeIgnored:
            await in_thread(lambda _: file.restart(max(size_bytes, 1)))
            await _fill(http, remote, file, progress, policy)
        if remote.digest is None or remote.digest == file.digest:
            await in_thread(lambda _: file.finish())
            return
        got = file.digest
        await in_thread(lambda _: file.restart(policy.part_bytes))
        if not resumed:
            file.discard()
            raise WrongDigest(remote.digest, got)


async def _ask_size(http: HttpClient, remote: RemoteFile) -> int:
    async with http.open("HEAD", remote.url, credentials=remote.credentials) as response:
        if response.content_length is None:
            raise Unreachable(response.host, "it does not tell the size of the file", is_final=True)
        return response.content_length


async def _fill(
    http: HttpClient,
    remote: RemoteFile,
    file: ResumableFile,
    progress: Progress,
    policy: DownloadPolicy,
) -> None:
    """Fetches the missing parts and hashes the whole; the first failure ends all of it."""
    progress(file.done_bytes)
    missing = iter([part for part in file.parts if not part.is_done])
    arrived = asyncio.Event()
    fetcher = _PartFetcher(http, remote, file, policy, lambda: _tell(file, progress, arrived))
    tasks = [
        asyncio.create_task(_hash_all(file, arrived)),
        *(asyncio.create_task(fetcher.run(missing)) for _ in range(policy.connections)),
    ]
    flusher = asyncio.create_task(_flush_all(file))  # ends by itself, or is not needed any more
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        if flusher.done():
            flusher.result()  # the system tells an error of the disk only once
    finally:
        await _stop(flusher, *tasks)


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the first failure is the one that is told


def _tell(file: ResumableFile, progress: Progress, arrived: asyncio.Event) -> None:
    progress(file.done_bytes)
    arrived.set()


async def _hash_all(file: ResumableFile, arrived: asyncio.Event) -> None:
    """Hashes what has arrived without a gap, while the rest arrives."""
    while not file.digest:
        arrived.clear()
        if not await in_thread(lambda _: file.hash_on(_HASH_BYTES)) and not file.digest:
            await arrived.wait()


async def _flush_all(file: ResumableFile) -> None:
    """Keeps the disk busy while the rest arrives, so that little is left to wait for at the end."""
    flushed_bytes = 0
    while (arrived_bytes := file.done_bytes) < file.size_bytes:
        if arrived_bytes - flushed_bytes < _FLUSH_BYTES:
            await asyncio.sleep(_POLL_S)
        else:
            flushed_bytes = arrived_bytes
            await in_thread(lambda _: file.flush())


@dataclass(frozen=True, slots=True)
class _PartFetcher:
    """Fetches parts one after the other; several run at the same time."""

    http: HttpClient
    remote: RemoteFile
    file: ResumableFile
    policy: DownloadPolicy
    told: Callable[[], None]

    async def run(self, missing: Iterator[Part]) -> None:
        for part in missing:
            await self._complete(part)

    async def _complete(self, part: Part) -> None:
        """Fetches a part; a failure counts only if nothing arrived since the one before."""
        failures = 0
        while not part.is_done:
            before = part.done_bytes
            try:
                await self._receive(part)
            except (HttpRefused, Unreachable) as error:
                failures = 1 if part.done_bytes > before else failures + 1
                delay_s = self.policy.retry.delay_s(failures, error)
                if delay_s is None:
                    raise
                await asyncio.sleep(delay_s)

    async def _receive(self, part: Part) -> None:
        """One request for the rest of a part, as far as it comes."""
        first, last = part.position, part.start + part.size_bytes - 1
        headers = {"Range": f"bytes={first}-{last}"}
        credentials = self.remote.credentials
        url = self.remote.url
        async with self.http.open("GET", url, credentials=credentials, headers=headers) as response:
            self._check_range(response, part)
            async with asyncio.timeout(None) as limit:
                await self._store(response, part, _StallGuard(limit, self.policy.stall_s))
        if not part.is_done:
            raise Unreachable(response.host or "the host", "it closed the connection too early")

    def _check_range(self, response: aiohttp.ClientResponse, part: Part) -> None:
        """Refuses an answer that is not the range, or not of a file of this size."""
        if response.status != 206:
            if part.size_bytes < self.file.size_bytes:
                raise _RangeIgnored
            self.file.forget(part)
            told = response.content_length
        else:
            text = response.headers.get("Content-Range", "").rpartition("/")[2]
            told = int(text) if text.isdecimal() else None
        if told not in (None, self.file.size_bytes):
            reason = f"it has a file of {told} bytes instead of {self.file.size_bytes}"
            raise Unreachable(response.host or "the host", reason, is_final=True)

    async def _store(
        self, response: aiohttp.ClientResponse, part: Part, guard: "_StallGuard"
    ) -> None:
        chunks: list[bytes] = []
        collected, since_s = 0, time.monotonic()
        room = part.size_bytes - part.done_bytes
        try:
            async for chunk, _ in response.content.iter_chunks():  # joins none, unlike iter_any
                guard.count(len(chunk))
                chunks.append(chunk[: room - collected])
                collected += len(chunks[-1])
                if _is_worth_writing(collected, len(chunks), time.monotonic() - since_s):
                    room -= collected
                    written, chunks, collected = chunks, [], 0
                    await self._write(part, written)
                    since_s = time.monotonic()
        finally:
            if collected:
                await self._write(part, chunks)

    async def _write(self, part: Part, chunks: list[bytes]) -> None:
        await in_thread(lambda _: self.file.write(part, chunks))
        self.told()


def _is_worth_writing(size_bytes: int, chunks: int, age_s: float) -> bool:
    return size_bytes >= _WRITE_BYTES or chunks >= _WRITE_CHUNKS or age_s > _WRITE_S


class _StallGuard:
    """Moves a time limit on while enough bytes come, so that a slow trickle ends as a stall."""

    def __init__(self, limit: asyncio.Timeout, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._least_bytes = int(_LEAST_RATE * window_s)
        self._start()

    def count(self, size_bytes: int) -> None:
        self._left -= size_bytes
        if self._left <= 0:
            self._start()

    def _start(self) -> None:
        self._left = self._least_bytes
        self._limit.reschedule(asyncio.get_running_loop().time() + self._window_s)


class SharedDownload:
    """A download that several clients follow; it ends with the last of them."""

    def __init__(self, work: Callable[[Progress], Coroutine[object, object, ResumableFile | None]]):
        self.completed_bytes = 0
        self.followers = 0
        self.task = asyncio.create_task(work(self._progress))

    def _progress(self, completed_bytes: int) -> None:
        self.completed_bytes = completed_bytes

    async def progress(self) -> AsyncGenerator[int, None]:
        """The bytes that have arrived, until the end; raises what the download raised."""
        told = 0
        while not self.task.done():
            if self.completed_bytes != told:
                told = self.completed_bytes
                yield told
            await asyncio.wait({self.task}, timeout=_POLL_S)
        self.task.result()

    @property
    def file(self) -> ResumableFile | None:
        """The finished file; None if another process has stored the blob meanwhile."""
        return self.task.result()

    async def end(self) -> None:
        """Stops the download, or gives its file back."""
        self.task.cancel()
        await asyncio.wait({self.task})
        if self.task.cancelled() or self.task.exception() is not None:
            return
        file = self.task.result()
        if file is not None:
            file.close()


class SharedDownloads:
    """The downloads of this process, by their files."""

    def __init__(self) -> None:
        self._running: dict[Path, SharedDownload] = {}

    @asynccontextmanager
    async def join(
        self,
        path: Path,
        work: Callable[[Progress], Coroutine[object, object, ResumableFile | None]],
    ) -> AsyncIterator[SharedDownload]:
        """The download into `path`: the running one, else a new one that does `work`."""
        shared = self._running.get(path)
        if shared is None or _has_failed(shared.task):
            shared = self._running[path] = SharedDownload(work)
        shared.followers += 1
        try:
            yield shared
        finally:
            shared.followers -= 1
            if not shared.followers:
                if self._running.get(path) is shared:
                    del self._running[path]
                await shared.end()


def _has_failed(task: "asyncio.Task[ResumableFile | None]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
