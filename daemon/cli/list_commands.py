"""The commands that list models: list, ps."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from . import table
from .client import Client
from .connect import with_client
from .environment import EnvironmentCommand
from .model_name import LOADED, STORED


@click.command("list", cls=EnvironmentCommand)
@click.argument("prefix", default="", type=STORED)
@with_client
async def list_stored(client: Client, /, prefix: str) -> None:
    """List the models in the store."""
    click.echo(table.stored(await client.get("/api/tags"), prefix, datetime.now(UTC)))


@click.command("ps", cls=EnvironmentCommand)
@click.argument("prefix", default="", type=LOADED)
@with_client
async def list_loaded(client: Client, /, prefix: str) -> None:
    """List the models in memory."""
    click.echo(table.loaded(await client.get("/api/ps"), prefix, datetime.now(UTC)))
