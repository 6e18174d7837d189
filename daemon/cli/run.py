"""`run`: ask a model once, or talk with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..config import Settings
from . import history, operations, repl
from .answer import AnswerView, ViewOptions, footer
from .client import Client
from .connect import run_with_client
from .parameter_types import ThinkCommand, keep_alive, schema_or_json, with_stdin
from .session import ChatSession

THINK: dict[str, bool | str] = {
    "true": True,
    "false": False,
    **{level: level for level in repl.THINK_LEVELS},
}


@click.command(cls=ThinkCommand)
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
    conversation = ChatSession(
        model=model,
        format=schema_or_json(shape),
        think=None if think is None else THINK[think],
        keep_alive=keep_alive(keepalive),
    )
    view = ViewOptions(verbose=verbose, hide_thinking=hidethinking, word_wrap=not nowordwrap)
    if not prompt and sys.stdin.isatty():
        path = None if nohistory else state_home.expanduser() / "outrider" / "history"
        _converse(address, conversation, view, insecure, path)
    else:
        text = with_stdin(" ".join(prompt))
        run_with_client(
            address, lambda client: _answer_once(client, conversation, text, view, insecure)
        )


def _converse(
    host: str | None,
    conversation: ChatSession,
    view: ViewOptions,
    insecure: bool,
    path: Path | None,
) -> None:
    with asyncio.Runner() as runner:
        client = runner.run(Client(Settings.load(host=host).base_url).__aenter__())
        try:
            runner.run(_prepare(client, conversation, insecure))
            with history.kept(path):
                repl.Repl(runner, client, conversation, view, sys.stdout).loop(input)
        finally:
            runner.run(client.close())


async def _prepare(client: Client, conversation: ChatSession, insecure: bool) -> None:
    """Has the model in the store and in memory."""
    await operations.ensure(client, conversation.model, insecure)
    await operations.load(client, conversation)


async def _answer_once(
    client: Client, conversation: ChatSession, text: str, view: ViewOptions, insecure: bool
) -> None:
    """One answer on stdout; without a prompt the model is only loaded."""
    if not text:
        await _prepare(client, conversation, insecure)
        return
    await operations.ensure(client, conversation.model, insecure)
    answer = AnswerView(sys.stdout, view)
    await operations.ask(client, conversation.said("user", text), answer)
    if view.verbose:
        print(footer(answer.metrics), file=sys.stderr)
