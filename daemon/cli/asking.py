"""`run`: ask a model once, or talk with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from .. import errands, history, repl
from ..answer import Answer, Look, footer
from ..chat import Chat
from ..client import Client
from ..config import Settings
from .talking import talk
from .words import BareThink, keep_alive, schema_or_json, with_stdin

THINK: dict[str, bool | str] = {
    "true": True,
    "false": False,
    **{level: level for level in repl.THINK_LEVELS},
}


@click.command(cls=BareThink)
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("--keepalive", help="How long the model stays loaded afterwards, such as 5m.")
@click.option("--verbose", is_flag=True, help="Show the speed of each answer.")
@click.option("--format", "shape", help='"json", or a JSON schema that the answer has to follow.')
@click.option("--think", type=click.Choice(list(THINK)), help="Think first, and how much.")
@click.option("--hidethinking", is_flag=True, help="Do not show the thinking.")
@click.option("--nowordwrap", is_flag=True, help="Do not break lines between words.")
@click.option("--insecure", is_flag=True, help="Fetch a missing model over plain HTTP.")
@click.option(
    "--nohistory",
    is_flag=True,
    envvar=["OUTRIDER_NOHISTORY", "OLLAMA_NOHISTORY"],
    help="Do not keep the lines typed at the prompt.",
)
@click.option(
    "--state-home",
    envvar="XDG_STATE_HOME",
    type=click.Path(path_type=Path),
    default="~/.local/state",
    hidden=True,
)
@click.pass_obj
def run(
    address: str | None,
    /,
    model: str,
    prompt: Sequence[str],
    keepalive: str | None,
    verbose: bool,
    shape: str | None,
    think: str | None,
    hidethinking: bool,
    nowordwrap: bool,
    insecure: bool,
    nohistory: bool,
    state_home: Path,
) -> None:
    """Ask MODEL one PROMPT, or talk with it when there is none."""
    conversation = Chat(
        model=model,
        format=schema_or_json(shape),
        think=None if think is None else THINK[think],
        keep_alive=keep_alive(keepalive),
    )
    look = Look(verbose=verbose, hide_thinking=hidethinking, word_wrap=not nowordwrap)
    if not prompt and sys.stdin.isatty():
        path = None if nohistory else state_home.expanduser() / "outrider" / "history"
        _converse(address, conversation, look, insecure, path)
    else:
        text = with_stdin(" ".join(prompt))
        talk(address, lambda client: _answer_once(client, conversation, text, look, insecure))


def _converse(
    host: str | None, conversation: Chat, look: Look, insecure: bool, path: Path | None
) -> None:
    with asyncio.Runner() as runner:
        client = runner.run(Client(Settings.load(host=host).base_url).__aenter__())
        try:
            runner.run(_prepare(client, conversation, insecure))
            with history.kept(path):
                repl.Repl(runner, client, conversation, look, sys.stdout).loop(input)
        finally:
            runner.run(client.close())


async def _prepare(client: Client, conversation: Chat, insecure: bool) -> None:
    """Has the model in the store and in memory."""
    await errands.ensure(client, conversation.model, insecure)
    await errands.load(client, conversation)


async def _answer_once(
    client: Client, conversation: Chat, text: str, look: Look, insecure: bool
) -> None:
    """One answer on stdout; without a prompt the model is only loaded."""
    if not text:
        await _prepare(client, conversation, insecure)
        return
    await errands.ensure(client, conversation.model, insecure)
    answer = Answer(sys.stdout, look)
    await errands.ask(client, conversation.said("user", text), answer)
    if look.verbose:
        print(footer(answer.metrics), file=sys.stderr)
