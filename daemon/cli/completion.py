"""The command `outrider completion`, and what a shell gets that asks for completions."""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from .command_group import COMPLETION, PROGRAM

# Bash takes a colon for the end of a word, so that it knows the name of a model in parts. The line
# is split here instead, and of each answer bash gets what follows the last colon.
BASH = """\
%(complete_func)s() {
    local response type value
    response=$(env OUTRIDER_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete \
"$1" 2>/dev/null)
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class BashLines(BashComplete):
    """Completion for bash, with names that have a colon in them."""

    source_template = BASH

    def source(self) -> str:
        """The code for bash; whether this bash is new enough shows when it is read."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words before the cursor, and the part of a word at the cursor."""
        line = os.environ.get("OUTRIDER_LINE", "")
        words = split_arg_string(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """The type, and the value without what bash has already."""
        _, incomplete = self.get_completion_args()
        before = incomplete.rpartition(":")[0]
        return f"{item.type},{item.value.removeprefix(f'{before}:') if before else item.value}"


SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashLines,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's code that completes commands.

    For bash, add to ~/.bashrc: eval "$(outrider completion bash)"; zsh is alike. For fish:
    outrider completion fish > ~/.config/fish/completions/outrider.fish
    """
    click.echo(_shell(ctx.find_root().command, shell).source())


def answer(commands: click.Command, asked: str) -> int:
    """Prints what a shell asks for; `asked` is like "bash_complete". The result is an exit code."""
    shell, _, action = asked.partition("_")
    if shell not in SHELLS or action not in ("complete", "source"):
        return 1
    chosen = _shell(commands, shell)
    click.echo(chosen.complete() if action == "complete" else chosen.source())
    return 0


def _shell(commands: click.Command, name: str) -> ShellComplete:
    return SHELLS[name](commands, {}, PROGRAM, COMPLETION)
