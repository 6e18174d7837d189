"""The commands that change stored and loaded models: pull, push, create, stop, cp, rm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from . import create_plan, operations
from .client import Client, DaemonError, MissingModelError
from .connect import with_client
from .environment import EnvironmentCommand
from .model_name import LOADED, STORED


@click.command(cls=EnvironmentCommand)
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Use plain HTTP; only for a registry of your own.")
@with_client
async def pull(client: Client, /, model: str, insecure: bool) -> None:
    """Fetch MODEL from its registry."""
    await operations.pull(client, model, insecure)


@click.command(cls=EnvironmentCommand)
@click.argument("model", type=STORED)
@click.option("--insecure", is_flag=True, help="Use plain HTTP; only for a registry of your own.")
@with_client
async def push(client: Client, /, model: str, insecure: bool) -> None:
    """Send MODEL to its registry."""
    await operations.push(client, model, insecure)


@click.command()
@click.argument("model")
@click.option(
    *("-f", "--file", "modelfile"),
    metavar="MODELFILE",
    type=click.Path(path_type=Path),
    help="The Modelfile.  [default: Modelfile]",
)
@click.option("-q", "--quantize", default="", metavar="TYPE", help="Quantize to, such as q4_K_M.")
@click.option("--draft-quantize", default="", metavar="TYPE", help="Quantize the drafter to.")
@with_client
async def create(client: Client, /, model: str, modelfile: Path | None, **more: str) -> None:
    """Create MODEL from a Modelfile: GGUF files, a drafter, other models, options, texts."""
    await operations.create(client, create_plan.plan_create(model, modelfile, **more))


@click.command(cls=EnvironmentCommand)
@click.argument("model", type=LOADED)
@with_client
async def stop(client: Client, /, model: str) -> None:
    """Unload MODEL from memory."""
    try:
        await operations.stop(client, model)
    except MissingModelError:
        raise MissingModelError(f'couldn\'t find model "{model}" to stop') from None


@click.command(cls=EnvironmentCommand)
@click.argument("source", type=STORED)
@click.argument("destination")
@with_client
async def cp(client: Client, /, source: str, destination: str) -> None:
    """Give a model a second name."""
    await client.post("/api/copy", {"source": source, "destination": destination})
    click.echo(f"copied '{source}' to '{destination}'")


@click.command(cls=EnvironmentCommand)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=STORED)
@with_client
async def rm(client: Client, /, models: Sequence[str]) -> None:
    """Stop models and delete them."""
    for model in models:
        try:
            await operations.stop(client, model)
        except MissingModelError:
            raise
        except DaemonError:
            pass  # a damaged model cannot be stopped, but it can be deleted
        await client.delete("/api/delete", {"model": model})
        click.echo(f"deleted '{model}'")
