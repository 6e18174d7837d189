"""The console entry point: which exit code does a command line end with?"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import click

from ..errors import ConfigError, OutriderError
from .command_group import COMPLETION, PROGRAM, commands

INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells report it


def main() -> None:
    """Runs the command line; every outcome is an exit code and at most one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot encode must not end the answer.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    if asked := os.environ.get(COMPLETION):
        sys.exit(import_module(".completion", __package__).answer(commands, asked))
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(args: Sequence[str]) -> int:
    """Runs one command. Exit codes: 0 success, 1 any error (CONTRACT 10.1), 130 interrupted."""
    try:
        with commands.make_context(PROGRAM, list(args)) as ctx:
            commands.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        hint = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        return _fail(error.format_message().rstrip(".") + hint)
    except click.ClickException as error:
        return _fail(error.format_message())
    except OutriderError as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe: discard what is buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the outermost guard: no traceback reaches the user
        if _is_debugging():
            traceback.print_exception(error)
        return _fail(
            f"unexpected {type(error).__name__}: {error}: please report this; "
            "run with OUTRIDER_DEBUG=1 for the traceback"
        )
    return 0


def _fail(text: str) -> int:
    print(f"Error: {text}", file=sys.stderr)
    return 1


def _is_debugging() -> bool:
    from ..config import Settings  # slow, and needed for a fault of this program alone

    with suppress(ConfigError):
        return Settings.load().debug
    return False
