"""Which argument types and conversions does the command line have beyond click's?"""

from __future__ import annotations

import json
import sys

import click

from .client import Json
from .environment import EnvironmentCommand


class NumberList(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Raises click.BadParameter."""
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,2,4", param, ctx)


class RunCommand(EnvironmentCommand):
    """Allows some options without a value; click would take the model's name as their value."""

    lone = ("--think", "--truncate")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrites a lone --think to --think=true."""
        end = args.index("--") if "--" in args else len(args)
        options = [f"{arg}=true" if arg in self.lone else arg for arg in args[:end]]
        return super().parse_args(ctx, options + args[end:])


def with_stdin(prompt: str) -> str:
    """The prompt followed by the text on stdin. Raises click.UsageError."""
    if sys.stdin.isatty():
        return prompt
    try:
        piped = sys.stdin.read().strip()
    except UnicodeDecodeError:
        raise click.UsageError("stdin is not UTF-8 text") from None
    return "\n".join(part for part in (prompt, piped) if part)


def schema_or_json(text: str | None) -> str | Json | None:
    """The `format` of a request. Raises click.UsageError."""
    if text is None or text == "json":
        return text
    try:
        schema = json.loads(text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise click.UsageError('--format takes "json" or a JSON schema, an object in braces')
    return schema


def keep_alive(text: str | None) -> str | float | None:
    """The `keep_alive` of a request: seconds, or a Go duration (CONTRACT 1.6)."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text
