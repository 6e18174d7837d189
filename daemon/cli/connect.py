"""How does a command get a client for the daemon?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..config import Settings
from .client import Client


def run_with_client(host: str | None, work: Callable[[Client], Awaitable[None]]) -> None:
    """Runs a coroutine with a client for the daemon at `host`, or at the configured address."""

    async def connected() -> None:
        async with Client(Settings.load(host=host).base_url) as client:
            await work(client)

    asyncio.run(connected())
