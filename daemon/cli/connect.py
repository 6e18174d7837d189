"""How does a command get a client for the daemon?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import click

from ..config import Settings
from .client import Client

P = ParamSpec("P")


def with_client(command: Callable[Concatenate[Client, P], Awaitable[None]]) -> Callable[P, None]:
    """Runs a coroutine as a click command, with a client for the daemon that `--host` names."""

    @click.pass_obj
    @wraps(command)
    def run(address: str | None, /, *args: P.args, **kwargs: P.kwargs) -> None:
        async def connected() -> None:
            settings = Settings.load(host=address)
            async with Client(settings.base_url, settings.client_key) as client:
                await command(client, *args, **kwargs)

        asyncio.run(connected())

    return run
