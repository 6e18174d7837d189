"""The command `outrider show`: the properties of a model, or one of its texts."""

from __future__ import annotations

import click

from . import show_view
from .client import Client
from .connect import with_client
from .environment import EnvironmentCommand
from .model_name import STORED


@click.command(cls=EnvironmentCommand)
@click.argument("model", type=STORED)
@click.option("--license", is_flag=True, help="Show its license.")
@click.option("--modelfile", is_flag=True, help="Show its Modelfile.")
@click.option("--parameters", is_flag=True, help="Show its options.")
@click.option("--system", is_flag=True, help="Show its system message.")
@click.option("--template", is_flag=True, help="Show its prompt template.")
@click.option("-v", "--verbose", is_flag=True, help="Show all metadata and tensors.")
@with_client
async def show(client: Client, /, model: str, verbose: bool, **parts: bool) -> None:
    """Show the properties of MODEL."""
    chosen = [name for name, is_set in parts.items() if is_set]
    if len(chosen) > 1:
        *first, last = (f"'--{name}'" for name in show_view.PARTS)
        raise click.UsageError(f"only one of {', '.join(first)}, or {last} can be specified")
    shown = await client.post("/api/show", {"model": model, "verbose": verbose})
    if chosen:
        click.echo(str(shown.get(chosen[0]) or "").rstrip("\n"))
    else:
        click.echo(show_view.render(shown, verbose))
