"""The command `outrider help`: the same texts as the option --help."""

from __future__ import annotations

import click


@click.command("help")
@click.argument("command", default="")
@click.pass_context
def help_of(ctx: click.Context, command: str) -> None:
    """Show the help of a command."""
    root = ctx.find_root()
    if not command:
        click.echo(root.get_help())
        return
    group = root.command
    found = group.get_command(root, command) if isinstance(group, click.Group) else None
    if found is None:
        raise click.UsageError(f"No such command {command!r}.", root)
    with click.Context(found, info_name=command, parent=root) as shown:
        click.echo(found.get_help(shown))
