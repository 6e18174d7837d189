"""How blocking work gets out of the event loop's way without outliving whoever asked for it."""

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[Event], T]) -> T:
    """The result of `work`, run in a thread; when cancelled, has `work` stop and awaits that."""
    stop = Event()
    task = asyncio.create_task(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    finally:
        stop.set()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # the waiter that was cancelled is not there to take it
