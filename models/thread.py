"""How blocking work runs outside the event loop and ends with the task that awaits it."""

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[Event], T]) -> T:
    """The result of `work`, run in a thread; cancelling sets its event and awaits its end."""
    stop = Event()
    task = asyncio.create_task(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    finally:
        stop.set()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the cancelled task cannot
