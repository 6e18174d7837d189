"""How long work reports its progress to who awaits it, one line at a time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from .thread import in_thread

REPORT_S = 0.1  # between two lines about one file

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CreateProgress:
    """One status line; `total` and `completed` are bytes of a file that is being written."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


Report = Callable[[CreateProgress], Awaitable[None]]


async def reported(
    work: Callable[[Report], Awaitable[None]],
) -> AsyncGenerator[CreateProgress, None]:
    """What `work` reports; it goes on when the next line is asked for, as a generator does.

    Closing the generator cancels the work, and waits for its end.
    """
    lines: asyncio.Queue[CreateProgress | None] = asyncio.Queue()

    async def report(line: CreateProgress) -> None:
        lines.put_nowait(line)
        await lines.join()

    task = asyncio.ensure_future(work(report))
    task.add_done_callback(lambda _: lines.put_nowait(None))
    try:
        while line := await lines.get():
            yield line
            lines.task_done()
        await task
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # marks it as retrieved, where the generator is closed early


async def report_while(
    work: Callable[[Event], T], report: Report, line: Callable[[], CreateProgress]
) -> T:
    """The result of `work` in a thread, which `line` describes from time to time."""
    task = asyncio.create_task(in_thread(work))
    try:
        while not task.done():
            await report(line())
            await asyncio.wait({task}, timeout=REPORT_S)
        return await task
    finally:
        task.cancel()
        await asyncio.wait({task})
