"""The commands signin and signout, as a daemon without a cloud answers them (CONTRACT 10.1)."""

from __future__ import annotations

import click

from .client import Client, DaemonError
from .connect import with_client
from .environment import EnvironmentCommand

NO_ACCOUNT = "models on this machine need no account, and Outrider never contacts a cloud"


@click.command("signin", cls=EnvironmentCommand)
@with_client
async def sign_in(client: Client, /) -> None:
    """Sign in to an account."""
    await client.get("/api/version")  # a daemon that is not there is another error
    try:
        account = await client.post("/api/me", {})
    except DaemonError as error:
        raise DaemonError(f"{error}: {NO_ACCOUNT}") from None
    click.echo(f"You are already signed in as user '{account.get('name', '')}'")


@click.command("signout", cls=EnvironmentCommand)
@with_client
async def sign_out(client: Client, /) -> None:
    """Sign out."""
    await client.post("/api/signout", {})
    click.echo("You have signed out.")
