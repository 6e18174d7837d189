"""The console entry point: which exit code does a command line end with?"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

import click

from ..config import Settings
from ..errors import ConfigError, OutriderError
from .client import Client
from .connect import with_client
from .model_commands import cp, create, list_loaded, list_stored, pull, push, rm, show, stop
from .quantize import quantize
from .run import run
from .serve import serve
from .speculation_commands import bench, verify

INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells report it


@click.group(
    commands=[
        *(serve, run, pull, push, create, list_stored, list_loaded),
        *(show, verify, bench, stop, cp, rm, quantize),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option(
    "--host", help="Where the daemon is, as in OUTRIDER_HOST.  [default: 127.0.0.1:11434]"
)
@click.option("-v", "--version", "show_version", is_flag=True, help="Show the version.")
@click.pass_context
def commands(ctx: click.Context, host: str | None, show_version: bool) -> None:
    """Run language models on this machine."""
    ctx.obj = host
    if show_version:
        _print_version()
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


commands.add_command(list_stored, "ls")


def main() -> None:
    """Runs the command line; every outcome is an exit code and at most one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot encode must not end the answer.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(args: Sequence[str]) -> int:
    """Runs one command. Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted."""
    try:
        with commands.make_context("outrider", list(args)) as ctx:
            commands.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        hint = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        return _fail(error.format_message().rstrip(".") + hint, error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except OutriderError as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe: discard what is buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the outermost guard: no traceback reaches the user
        with suppress(ConfigError):
            if Settings.load().debug:
                traceback.print_exception(error)
        return _fail(
            f"unexpected {type(error).__name__}: {error}: please report this; "
            "run with OUTRIDER_DEBUG=1 for the traceback"
        )
    return 0


def _fail(text: str, code: int = 1) -> int:
    print(f"Error: {text}", file=sys.stderr)
    return code


@with_client
async def _print_version(client: Client, /) -> None:
    own = version("outrider")
    click.echo(f"outrider version is {own}")
    try:
        await client.get("/api/version")
    except OutriderError:
        return  # the version is printed without a daemon, too
    if client.daemon_version not in (None, own):
        click.echo(f"Warning: the daemon's version is {client.daemon_version}", err=True)
