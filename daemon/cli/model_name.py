"""Which models' names complete an argument? Those that the daemon has, if it answers at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from ..config import Settings
from ..errors import OutriderError
from .client import Client

TIMEOUT_S = 1.0  # a person waits for the shell


class ModelName(click.ParamType[str]):
    """The name of a model; `path` is the route that lists those that fit."""

    name = "model"

    def __init__(self, path: str) -> None:
        self._path = path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin like this; none if the daemon cannot be asked."""
        names: list[str] = []
        with suppress(OutriderError, TimeoutError):
            settings = Settings.load(host=ctx.find_root().params.get("host"))
            names = asyncio.run(_names_in_time(settings, self._path))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


STORED = ModelName("/api/tags")
LOADED = ModelName("/api/ps")


async def model_names(client: Client, path: str = "/api/tags") -> list[str]:
    """The names that GET `path` lists. Raises DaemonError and TimeoutError."""
    async with asyncio.timeout(TIMEOUT_S):
        answer = await client.get(path)
    names = (model.get("name") for model in answer.get("models") or () if isinstance(model, dict))
    return [str(name) for name in names if name]


async def _names_in_time(settings: Settings, path: str) -> list[str]:
    async with Client(settings.base_url, settings.client_key) as client:
        return await model_names(client, path)
