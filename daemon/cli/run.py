"""`run`: how does a prompt, or a conversation, reach a model?"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..config import Settings
from . import history, operations, repl
from .answer import AnswerView, ViewOptions, footer
from .client import Client
from .connect import with_client
from .mcp_servers import McpError, McpToolbox, ServerSpec, read_config
from .parameter_types import ThinkCommand, keep_alive, schema_or_json, with_stdin
from .session import ChatSession
from .tool_loop import NoTools, Toolbox, answer_last

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
    "--mcp",
    "mcp_config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Let the model use the tools of the MCP servers in this JSON file.",
)
@click.option("--yes", is_flag=True, help="Make every tool call without asking.")
@click.option(
    "--insecure",
    is_flag=True,
    help="Fetch a missing model over plain HTTP; only for a registry of your own.",
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
    mcp_config: Path | None,
    yes: bool,
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
    servers = read_config(mcp_config) if mcp_config else ()
    tools = ToolOptions(servers, yes)
    view = ViewOptions(verbose=verbose, hide_thinking=hidethinking, word_wrap=not nowordwrap)
    if not prompt and sys.stdin.isatty():
        path = None if nohistory else state_home.expanduser() / "outrider" / "history"
        _converse(address, session, view, tools, insecure, path)
    else:
        text = with_stdin(" ".join(prompt))
        _answer_once(session, text, view, tools, insecure)


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """Which MCP servers a model may use, and whether a person is asked before each call."""

    servers: tuple[ServerSpec, ...]
    yes: bool

    async def open(self) -> Toolbox:
        """The tools of all servers. Raises McpError."""
        if not self.servers:
            return NoTools()
        return await McpToolbox(self.servers, show if self.yes else ask).open()


def show(name: str, arguments: str) -> bool:
    """Shows a tool call that is made without asking."""
    click.echo(f"Calling {name} {arguments}", err=True)
    return True


def ask(name: str, arguments: str) -> bool:
    """Shows a tool call, and asks whether to make it.

    Raises McpError if nobody can answer, and KeyboardInterrupt at Ctrl-C and Ctrl-D. Asking in a
    thread would not end at Ctrl-C, but swallow the next line that is typed.
    """
    if not sys.stdin.isatty():
        raise McpError(f"the model wants to call {name} {arguments}; allow that with --yes")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's would wait
    try:
        return click.confirm(f"Call {name} {arguments}?", default=True, err=True)
    except click.Abort:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def _converse(
    host: str | None,
    session: ChatSession,
    view: ViewOptions,
    tools: ToolOptions,
    insecure: bool,
    path: Path | None,
) -> None:
    with asyncio.Runner() as runner:
        client = runner.run(Client(Settings.load(host=host).base_url).__aenter__())
        toolbox: Toolbox = NoTools()
        try:
            runner.run(_prepare(client, session, insecure))
            toolbox = runner.run(tools.open())
            with history.persisted(path):
                repl.Repl(runner, client, session, view, sys.stdout, toolbox).loop(input)
        finally:
            runner.run(toolbox.close())
            runner.run(client.close())


async def _prepare(client: Client, session: ChatSession, insecure: bool) -> None:
    """Pulls the model if it is missing, and loads it."""
    await operations.ensure(client, session.model, insecure)
    await operations.load(client, session)


@with_client
async def _answer_once(
    client: Client,
    /,
    session: ChatSession,
    text: str,
    view: ViewOptions,
    tools: ToolOptions,
    insecure: bool,
) -> None:
    """Writes one answer to stdout; an empty prompt only loads the model."""
    if not text:
        await _prepare(client, session, insecure)
        return
    await operations.ensure(client, session.model, insecure)
    toolbox = await tools.open()
    asked = session.with_message("user", text)
    try:
        answer = await answer_last(
            client, asked, toolbox, lambda: AnswerView(sys.stdout, view), lambda _: None
        )
    finally:
        await toolbox.close()
    if view.verbose:
        print(footer(answer.metrics), file=sys.stderr)
