"""The commands on stored and loaded models: pull, create, list, ps, show, stop, cp, rm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from . import create_plan, operations, show_view, table
from .client import Client, Json, MissingModelError
from .connect import run_with_client

PARTS = ("license", "modelfile", "parameters", "system", "template")


@click.command()
@click.argument("model")
@click.option(
    "--insecure", is_flag=True, help="Fetch over plain HTTP; the daemon refuses that for now."
)
@click.pass_obj
def pull(address: str | None, /, model: str, insecure: bool) -> None:
    """Fetch MODEL from its registry."""
    run_with_client(address, lambda client: operations.pull(client, model, insecure))


@click.command()
@click.argument("model")
@click.option(
    "-f",
    "--file",
    "modelfile",
    metavar="MODELFILE",
    type=click.Path(path_type=Path),
    help="The Modelfile.  [default: Modelfile]",
)
@click.pass_obj
def create(address: str | None, /, model: str, modelfile: Path | None) -> None:
    """Create MODEL from a Modelfile: GGUF files, a drafter, other models, options, texts."""
    plan = create_plan.plan_create(model, modelfile)
    run_with_client(address, lambda client: operations.create(client, plan))


@click.command("list")
@click.argument("prefix", default="")
@click.pass_obj
def list_stored(address: str | None, /, prefix: str) -> None:
    """List the models in the store."""

    async def work(client: Client) -> None:
        click.echo(table.stored(await client.get("/api/tags"), prefix, datetime.now(UTC)))

    run_with_client(address, work)


@click.command("ps")
@click.argument("prefix", default="")
@click.pass_obj
def list_loaded(address: str | None, /, prefix: str) -> None:
    """List the models in memory."""

    async def work(client: Client) -> None:
        click.echo(table.loaded(await client.get("/api/ps"), prefix, datetime.now(UTC)))

    run_with_client(address, work)


@click.command()
@click.argument("model")
@click.option("--license", is_flag=True, help="Show its license.")
@click.option("--modelfile", is_flag=True, help="Show its Modelfile.")
@click.option("--parameters", is_flag=True, help="Show its options.")
@click.option("--system", is_flag=True, help="Show its system message.")
@click.option("--template", is_flag=True, help="Show its prompt template.")
@click.option("-v", "--verbose", is_flag=True, help="Show all metadata and tensors.")
@click.pass_obj
def show(address: str | None, /, model: str, verbose: bool, **parts: bool) -> None:
    """Show the properties of MODEL."""
    chosen = [name for name, is_set in parts.items() if is_set]
    if len(chosen) > 1:
        *first, last = (f"'--{name}'" for name in PARTS)
        raise click.UsageError(f"only one of {', '.join(first)}, or {last} can be specified")

    async def work(client: Client) -> None:
        shown = await client.post("/api/show", {"model": model, "verbose": verbose})
        click.echo(_part(shown, chosen[0]) if chosen else show_view.render(shown, verbose))

    run_with_client(address, work)


@click.command()
@click.argument("model")
@click.pass_obj
def stop(address: str | None, /, model: str) -> None:
    """Unload MODEL from memory."""

    async def work(client: Client) -> None:
        try:
            await operations.stop(client, model)
        except MissingModelError:
            raise MissingModelError(f'couldn\'t find model "{model}" to stop') from None

    run_with_client(address, work)


@click.command()
@click.argument("source")
@click.argument("destination")
@click.pass_obj
def cp(address: str | None, /, source: str, destination: str) -> None:
    """Give a model a second name."""

    async def work(client: Client) -> None:
        await client.post("/api/copy", {"source": source, "destination": destination})
        click.echo(f"copied '{source}' to '{destination}'")

    run_with_client(address, work)


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.pass_obj
def rm(address: str | None, /, models: Sequence[str]) -> None:
    """Stop models and delete them."""

    async def work(client: Client) -> None:
        for model in models:
            await operations.stop(client, model)
            await client.delete("/api/delete", {"model": model})
            click.echo(f"deleted '{model}'")

    run_with_client(address, work)


def _part(shown: Json, part: str) -> str:
    return str(shown.get(part) or "").rstrip("\n")
