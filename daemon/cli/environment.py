"""Which environment variables does a command read? Its help lists them (CONTRACT 10.1)."""

from __future__ import annotations

import click

PREFIX = "OUTRIDER_"
HOST = (f"{PREFIX}HOST", "Where the daemon is.  [default: 127.0.0.1:11434]")
NOTE = "OLLAMA_ in place of OUTRIDER_ works, too."


class EnvironmentCommand(click.Command):
    """A command whose help ends with its environment variables: OUTRIDER_HOST, and those that its
    options name as `envvar`."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of variables; those for other programs are left out."""
        rows = [HOST, *self.variables()]
        with formatter.section("Environment variables"):
            formatter.write_dl(list(dict(rows).items()))
        formatter.write_paragraph()
        formatter.write_text(NOTE)

    def variables(self) -> list[tuple[str, str]]:
        """Name and meaning of each further variable."""
        options = [option for option in self.params if isinstance(option, click.Option)]
        return [
            (name, option.help)
            for option in options
            for name in _names(option)
            if name.startswith(PREFIX) and option.help
        ]


class ServeCommand(EnvironmentCommand):
    """The settings read the variables of the daemon, not click: each flag has one of its name."""

    def variables(self) -> list[tuple[str, str]]:
        """One variable for each flag that sets a setting."""
        return [
            (PREFIX + option.name.upper(), option.help)
            for option in self.params
            if isinstance(option, click.Option)
            if option.name and option.help and option.name not in ("port", "pull", "host")
        ]


def _names(option: click.Option) -> list[str]:
    given = option.envvar or []
    return [given] if isinstance(given, str) else list(given)
