"""`run`: how does a prompt, or a conversation, reach a model?"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from ..config import Settings
from . import operations, repl
from .answer import AnswerView, ViewOptions, footer
from .attachments import attach
from .client import Client, Json
from .connect import with_client
from .history import HistoryFile
from .line_reader import LineReader, can_edit, plain_reader
from .mcp_servers import McpError, McpToolbox, ServerSpec, read_config
from .model_name import STORED, model_names
from .parameter_types import RunCommand, keep_alive, schema_or_json, with_stdin
from .repl_words import THINK_LEVELS
from .session import ChatSession
from .tool_loop import NoTools, Toolbox, answer_last

THINK: dict[str, bool | str] = {"true": True, "false": False, **{x: x for x in THINK_LEVELS}}

NEEDS_TEXT = "embedding models need a text: outrider run {} 'a text'"


@click.command(cls=RunCommand)
@click.argument("model", type=STORED)
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
@click.option("--insecure", is_flag=True, help="Fetch a missing model over plain HTTP.")
@click.option(
    "--truncate",
    type=bool,
    help="Of an embedding model: cut a text that is too long, or refuse it.  [default: true]",
)
@click.option(
    "--dimensions",
    type=click.IntRange(1),
    help="Of an embedding model: the first numbers of the vector.",
)
@click.option(
    "--nohistory",
    is_flag=True,
    envvar=["OUTRIDER_NOHISTORY", "OLLAMA_NOHISTORY"],
    help="Do not keep the lines typed at the prompt.",
)
@click.option(
    "--editor",
    envvar=["OUTRIDER_EDITOR", "OLLAMA_EDITOR", "VISUAL", "EDITOR"],
    default="vi",
    help="The program that Ctrl-G at the prompt starts.",
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
    truncate: bool | None,
    dimensions: int | None,
    nohistory: bool,
    editor: str,
    state_home: Path,
) -> None:
    """Answer one PROMPT with MODEL, or start a conversation if there is none.

    An embedding model prints the vector of the prompt.
    """
    session = ChatSession(
        model=model,
        format=schema_or_json(format_text),
        think=None if think is None else THINK[think],
        keep_alive=keep_alive(keepalive),
    )
    servers = read_config(mcp_config) if mcp_config else ()
    view = ViewOptions(verbose=verbose, hide_thinking=hidethinking, word_wrap=not nowordwrap)
    embedding = {"truncate": truncate, "dimensions": dimensions}
    options = RunOptions(view, ToolOptions(servers, yes), insecure, embedding)
    if not prompt and sys.stdin.isatty():
        history = None if nohistory else HistoryFile(state_home.expanduser() / "outrider/history")
        _converse(address, session, options, history, editor)
    else:
        _answer_once(session, with_stdin(" ".join(prompt)), options)


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


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How answers are made and shown."""

    view: ViewOptions
    tools: ToolOptions
    insecure: bool
    embedding: Json  # fields of POST /api/embed, None if they are not given (CONTRACT 1.10)


def _converse(
    host: str | None,
    session: ChatSession,
    options: RunOptions,
    history: HistoryFile | None,
    editor: str,
) -> None:
    with asyncio.Runner() as runner:
        settings = Settings.load(host=host)
        client = runner.run(Client(settings.base_url, settings.client_key).__aenter__())
        toolbox: Toolbox = NoTools()
        try:
            session = runner.run(_prepare(client, session, options))
            if _is_embedder(session):
                raise click.UsageError(NEEDS_TEXT.format(session.model))
            runner.run(operations.load(client, session))
            toolbox = runner.run(options.tools.open())
            with _reader(runner, client, history, editor) as reader:
                view, out = options.view, sys.stdout
                repl.Repl(runner, client, session, view, out, toolbox, reader).loop()
        finally:
            runner.run(toolbox.close())
            runner.run(client.close())


@contextmanager
def _reader(
    runner: asyncio.Runner, client: Client, history: HistoryFile | None, editor: str
) -> Iterator[LineReader]:
    """What reads lines in this terminal."""
    if not can_edit():
        with plain_reader(history) as reader:
            yield reader
        return
    from .line_editor import LineEditor  # slow, and for conversations alone

    yield LineEditor(runner, partial(model_names, client), history, editor)


async def _prepare(client: Client, session: ChatSession, options: RunOptions) -> ChatSession:
    """Pulls the model if it is missing; the session then knows what it can do."""
    shown = await operations.ensure(client, session.model, options.insecure)
    known = replace(session, capabilities=operations.capabilities(shown))
    given = [name for name, value in options.embedding.items() if value is not None]
    if given and not _is_embedder(known):
        raise click.UsageError(f"--{given[0]} is for embedding models, and {known.model} is none")
    return known


def _is_embedder(session: ChatSession) -> bool:
    """Whether the model makes vectors and no text."""
    known = session.capabilities or ()
    return "embedding" in known and "completion" not in known


@with_client
async def _answer_once(
    client: Client, /, session: ChatSession, text: str, options: RunOptions
) -> None:
    """Writes one answer to stdout; an empty prompt only loads the model."""
    session = await _prepare(client, session, options)
    if _is_embedder(session):
        await _embed(client, session, text, options.embedding)
    elif text:
        await _answer(client, session, text, options)
    else:
        await operations.load(client, session)


async def _embed(client: Client, session: ChatSession, text: str, fields: Json) -> None:
    """Writes the vector of the text to stdout, as JSON on one line."""
    if not text:
        raise click.UsageError(NEEDS_TEXT.format(session.model))
    body = {"model": session.model, "input": text, "keep_alive": session.keep_alive, **fields}
    given = {name: value for name, value in body.items() if value is not None}
    click.echo(json.dumps(await operations.embed(client, given), separators=(",", ":")))


async def _answer(client: Client, session: ChatSession, text: str, options: RunOptions) -> None:
    sent = attach(text, session.model, session.capabilities)
    asked = session.with_message("user", sent.text, sent.files)
    toolbox = await options.tools.open()
    try:
        answer = await answer_last(
            client, asked, toolbox, lambda: AnswerView(sys.stdout, options.view), lambda _: None
        )
    finally:
        await toolbox.close()
    if options.view.verbose:
        print(footer(answer.metrics), file=sys.stderr)
