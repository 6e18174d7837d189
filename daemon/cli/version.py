"""What does `outrider --version` print (CONTRACT 10.1)?"""

from __future__ import annotations

from importlib.metadata import version

import click

from ..errors import OutriderError
from .client import Client
from .connect import with_client


@with_client
async def print_version(client: Client, /) -> None:
    """The daemon's version, and a warning if this command has another one or finds no daemon."""
    own = version("outrider")
    try:
        await client.get("/api/version")
    except OutriderError:
        click.echo(f"outrider version is {own}")
        click.echo("Warning: could not connect to a running Outrider daemon", err=True)
        return
    # Another program at this address, such as Ollama, does not say which Outrider it is.
    click.echo(f"outrider version is {client.daemon_version or own}")
    if client.daemon_version not in (None, own):
        click.echo(f"Warning: client version is {own}", err=True)
