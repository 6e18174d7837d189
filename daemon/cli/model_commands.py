"""The commands on stored and loaded models: pull, push, create, list, ps, show, stop, cp, rm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from . import create_plan, operations, show_view, table
from .client import Client, MissingModelError
from .connect import with_client


@click.command()
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Use plain HTTP; only for a registry of your own.")
@with_client
async def pull(client: Client, /, model: str, insecure: bool) -> None:
    """Fetch MODEL from its registry."""
    await operations.pull(client, model, insecure)


@click.command()
@click.argument("model")
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


@click.command("list")
@click.argument("prefix", default="")
@with_client
async def list_stored(client: Client, /, prefix: str) -> None:
    """List the models in the store."""
    click.echo(table.stored(await client.get("/api/tags"), prefix, datetime.now(UTC)))


@click.command("ps")
@click.argument("prefix", default="")
@with_client
async def list_loaded(client: Client, /, prefix: str) -> None:
    """List the models in memory."""
    click.echo(table.loaded(await client.get("/api/ps"), prefix, datetime.now(UTC)))


@click.command()
@click.argument("model")
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


@click.command()
@click.argument("model")
@with_client
async def stop(client: Client, /, model: str) -> None:
    """Unload MODEL from memory."""
    try:
        await operations.stop(client, model)
    except MissingModelError:
        raise MissingModelError(f'couldn\'t find model "{model}" to stop') from None


@click.command()
@click.argument("source")
@click.argument("destination")
@with_client
async def cp(client: Client, /, source: str, destination: str) -> None:
    """Give a model a second name."""
    await client.post("/api/copy", {"source": source, "destination": destination})
    click.echo(f"copied '{source}' to '{destination}'")


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@with_client
async def rm(client: Client, /, models: Sequence[str]) -> None:
    """Stop models and delete them."""
    for model in models:
        await operations.stop(client, model)
        await client.delete("/api/delete", {"model": model})
        click.echo(f"deleted '{model}'")
