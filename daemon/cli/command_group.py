"""Which commands are there, and where? A module is imported when its command runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click
from click.shell_completion import CompletionItem

PROGRAM = "outrider"
COMPLETION = "_OUTRIDER_COMPLETE"  # environment variable: what a shell asks for, "bash_complete"


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """Where a command is: a module of this folder, and its name there. The summary is repeated
    here, so that the list of commands needs none of the modules."""

    module: str
    attribute: str
    summary: str
    alias: str = ""


COMMANDS: Mapping[str, CommandEntry] = {
    "serve": CommandEntry("serve", "serve", "Start the daemon.", "start"),
    "create": CommandEntry("model_commands", "create", "Create MODEL from a Modelfile."),
    "show": CommandEntry("show_command", "show", "Show the properties of MODEL."),
    "run": CommandEntry("run", "run", "Answer one PROMPT, or start a conversation."),
    "stop": CommandEntry("model_commands", "stop", "Unload MODEL from memory."),
    "pull": CommandEntry("model_commands", "pull", "Fetch MODEL from its registry."),
    "push": CommandEntry("model_commands", "push", "Send MODEL to its registry."),
    "signin": CommandEntry("account_commands", "sign_in", "Sign in to an account.", "login"),
    "signout": CommandEntry("account_commands", "sign_out", "Sign out.", "logout"),
    "list": CommandEntry("list_commands", "list_stored", "List the models in the store.", "ls"),
    "ps": CommandEntry("list_commands", "list_loaded", "List the models in memory."),
    "top": CommandEntry("top", "top", "Show what the daemon is doing, each second."),
    "doctor": CommandEntry("doctor", "doctor", "Show what is wrong with this machine's set-up."),
    "plan": CommandEntry("plan_command", "plan", "Show what MODEL would take in memory."),
    "quantize": CommandEntry("quantize", "quantize", "Quantise a GGUF file."),
    "cp": CommandEntry("model_commands", "cp", "Give a model a second name."),
    "rm": CommandEntry("model_commands", "rm", "Stop models and delete them."),
    "verify": CommandEntry(
        "speculation_commands", "verify", "Compare texts with and without drafts."
    ),
    "bench": CommandEntry(
        "speculation_commands", "bench", "Measure the speed with and without drafts."
    ),
    "service": CommandEntry("service", "service", "Run the daemon as a service."),
    "grafana": CommandEntry("grafana", "grafana", "Print a Grafana dashboard for the metrics."),
    "completion": CommandEntry(
        "completion", "completion", "Print the shell's code that completes commands."
    ),
    "help": CommandEntry("help_command", "help_of", "Show the help of a command."),
}
ALIASES = {entry.alias: name for name, entry in COMMANDS.items() if entry.alias}


class LazyGroup(click.Group):
    """The commands of the table; nothing of them is imported until one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, also by its alias; None if there is none of that name."""
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command = getattr(import_module(f".{entry.module}", __package__), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(_with_alias(name), COMMANDS[name].summary) for name in COMMANDS])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, and options."""
        names = (name for name in COMMANDS if name.startswith(incomplete))
        items = [CompletionItem(name, help=COMMANDS[name].summary) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


def _with_alias(name: str) -> str:
    alias = COMMANDS[name].alias
    return f"{name}, {alias}" if alias else name


@click.group(
    cls=LazyGroup,
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
        import_module(".version", __package__).print_version()
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
