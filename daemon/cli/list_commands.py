"""The commands that list models: list, ps."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from . import plan_view, table
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
@click.option("-v", "--verbose", is_flag=True, help="Show what each takes, by device and part.")
@with_client
async def list_loaded(client: Client, /, prefix: str, verbose: bool) -> None:
    """List the models in memory."""
    answer = await client.get("/api/ps")
    click.echo(table.loaded(answer, prefix, datetime.now(UTC)))
    for model in table.chosen(answer, prefix) if verbose else ():
        click.echo(f"\n{plan_view.loaded(model)}")
