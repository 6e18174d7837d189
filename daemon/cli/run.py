"""`run`: how does a prompt, or a conversation, reach a model?"""

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
from .connect import with_client
from .parameter_types import ThinkCommand, keep_alive, schema_or_json, with_stdin
from .session import ChatSession

THINK: dict[str, bool | str] = {"true": True, "false": False, **{x: x for x in repl.THINK_LEVELS}}


@click.command(cls=ThinkCommand)
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("--keepalive", help="How long the model stays loaded afterwards, such as 5m.")
@click.option("--verbose", is_flag=True, help="Show the speed of each answer.")
@click.option(
    "--format", "format_text", help='"json", or a JSON schema that the answer has to follow.'
)
@click.option("--think", type=click.Choice(list(THINK)), help="Think first, and how much.")
@click.option("--hidethinking", is_flag=True, help="Do not show the thinking.")
@click.option("--nowordwrap", is_flag=True, help="Do not break lines between words.")
@click.option(
    "--insecure",
    is_flag=True,
    help="Fetch a missing model over plain HTTP; the daemon refuses that for now.",
)
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
    format_text: str | None,
    think: str | None,
    hidethinking: bool,
    nowordwrap: bool,
    insecure: bool,
    nohistory: bool,
    state_home: Path,
) -> None:
    """Answer one PROMPT with MODEL, or start a conversation if there is none."""
    session = ChatSession(
        model=model,
        format=schema_or_json(format_text),
        think=None if think is None else THINK[think],
        keep_alive=keep_alive(keepalive),
    )
    view = ViewOptions(verbose=verbose, hide_thinking=hidethinking, word_wrap=not nowordwrap)
    if not prompt and sys.stdin.isatty():
        path = None if nohistory else state_home.expanduser() / "outrider" / "history"
        _converse(address, session, view, insecure, path)
    else:
        text = with_stdin(" ".join(prompt))
        _answer_once(session, text, view, insecure)


def _converse(
    host: str | None, session: ChatSession, view: ViewOptions, insecure: bool, path: Path | None
) -> None:
    with asyncio.Runner() as runner:
        client = runner.run(Client(Settings.load(host=host).base_url).__aenter__())
        try:
            runner.run(_prepare(client, session, insecure))
            with history.persisted(path):
                repl.Repl(runner, client, session, view, sys.stdout).loop(input)
        finally:
            runner.run(client.close())


async def _prepare(client: Client, session: ChatSession, insecure: bool) -> None:
    """Pulls the model if it is missing, and loads it."""
    await operations.ensure(client, session.model, insecure)
    await operations.load(client, session)


@with_client
async def _answer_once(
    client: Client, /, session: ChatSession, text: str, view: ViewOptions, insecure: bool
) -> None:
    """Writes one answer to stdout; an empty prompt only loads the model."""
    if not text:
        await _prepare(client, session, insecure)
        return
    await operations.ensure(client, session.model, insecure)
    answer = AnswerView(sys.stdout, view)
    await operations.chat(client, session.with_message("user", text), answer)
    if view.verbose:
        print(footer(answer.metrics), file=sys.stderr)
