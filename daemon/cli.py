"""The verbs of the `outrider` command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from . import bench as trials
from . import bench_page, card, creation, errands, history, progress, repl, table
from . import verify as proofs
from .answer import Answer, Look, footer
from .chat import Chat
from .client import Client, DaemonError, Json, MissingModelError
from .config import Settings
from .errors import ConfigError, OutriderError
from .trial import reading_ahead

INTERRUPTED = 130
PARTS = ("license", "modelfile", "parameters", "system", "template")
THINK: dict[str, bool | str] = {
    "true": True,
    "false": False,
    **{level: level for level in repl.THINK_LEVELS},
}


class Numbers(click.ParamType[tuple[float, ...]]):
    """Several numbers, separated by commas."""

    name = "numbers"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Raises click.BadParameter."""
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,2,4", param, ctx)


NUMBERS = Numbers()


class BareThink(click.Command):
    """Lets --think stand alone: click itself would take the model's name for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts in the value that a lone --think stands for."""
        end = args.index("--") if "--" in args else len(args)
        options = ["--think=true" if arg == "--think" else arg for arg in args[:end]]
        return super().parse_args(ctx, options + args[end:])


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.option(
    "--host", help="Where the daemon is, as in OUTRIDER_HOST.  [default: 127.0.0.1:11434]"
)
@click.option("-v", "--version", "show_version", is_flag=True, help="Show the version.")
@click.pass_context
def commands(ctx: click.Context, host: str | None, show_version: bool) -> None:
    """Run language models on this machine."""
    ctx.obj = host
    if show_version:
        _talk(host, _print_version)
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@commands.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 11434]")
@click.option("--models", type=click.Path(path_type=Path), help="Where models are stored.")
@click.option("--keep-alive", help="How long an idle model stays loaded, such as 5m.")
@click.option("--num-parallel", type=int, help="Requests that one model answers at a time.")
@click.option("--context-length", type=int, help="Tokens of context for each request.")
@click.option("--max-loaded-models", type=int, help="Models in memory at a time.")
@click.option("--kv-cache-type", help="f32, f16, q8_0 or q4_0.")
@click.option("--speculation", help="Tokens to guess ahead: auto, off, or a number.")
@click.option("--draft", metavar="FILE", help="A drafter's GGUF, for models that bring none.")
@click.option("--origins", help="Further web origins that may call, separated by commas.")
@click.option("--debug", is_flag=True, default=None, help="Log more.")
@click.option("--pull", metavar="MODEL", help="Fetch this model first if it is missing.")
@click.pass_obj
def serve(
    address: str | None, /, host: str | None, port: int | None, pull: str | None, **flags: object
) -> None:
    """Start the daemon."""
    settings = Settings.load(port=port, host=host or address, **flags)
    # The server and its engine come in only here, so that the other verbs start at once.
    from . import app

    asyncio.run(app.serve(settings, pull))


@commands.command(cls=BareThink)
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
        format=_format(shape),
        think=None if think is None else THINK[think],
        keep_alive=_keep_alive(keepalive),
    )
    look = Look(verbose=verbose, hide_thinking=hidethinking, word_wrap=not nowordwrap)
    if not prompt and sys.stdin.isatty():
        path = None if nohistory else state_home.expanduser() / "outrider" / "history"
        _converse(address, conversation, look, insecure, path)
    else:
        text = _with_stdin(" ".join(prompt))
        _talk(address, lambda client: _answer_once(client, conversation, text, look, insecure))


@commands.command()
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Fetch over plain HTTP.")
@click.pass_obj
def pull(address: str | None, /, model: str, insecure: bool) -> None:
    """Fetch MODEL from its registry."""
    _talk(address, lambda client: errands.pull(client, model, insecure))


@commands.command()
@click.argument("model")
@click.option(
    "-f",
    "--file",
    "modelfile",
    metavar="MODELFILE",
    type=click.Path(path_type=Path),
    help="What it is made of.  [default: Modelfile]",
)
@click.pass_obj
def create(address: str | None, /, model: str, modelfile: Path | None) -> None:
    """Make MODEL of a Modelfile: GGUF files, a drafter, other models, options, texts."""
    plan = creation.plan(model, modelfile)
    _talk(address, lambda client: errands.create(client, plan))


@commands.command("list")
@click.argument("prefix", default="")
@click.pass_obj
def list_stored(address: str | None, /, prefix: str) -> None:
    """List the models in the store."""

    async def work(client: Client) -> None:
        click.echo(table.stored(await client.get("/api/tags"), prefix, datetime.now(UTC)))

    _talk(address, work)


commands.add_command(list_stored, "ls")


@commands.command("ps")
@click.argument("prefix", default="")
@click.pass_obj
def list_loaded(address: str | None, /, prefix: str) -> None:
    """List the models in memory."""

    async def work(client: Client) -> None:
        click.echo(table.loaded(await client.get("/api/ps"), prefix, datetime.now(UTC)))

    _talk(address, work)


@commands.command()
@click.argument("model")
@click.option("--license", is_flag=True, help="Show its license.")
@click.option("--modelfile", is_flag=True, help="Show its Modelfile.")
@click.option("--parameters", is_flag=True, help="Show its options.")
@click.option("--system", is_flag=True, help="Show its system message.")
@click.option("--template", is_flag=True, help="Show its prompt template.")
@click.option("-v", "--verbose", is_flag=True, help="Show all metadata and tensors.")
@click.pass_obj
def show(address: str | None, /, model: str, verbose: bool, **parts: bool) -> None:
    """Show what MODEL is."""
    chosen = [name for name, wanted in parts.items() if wanted]
    if len(chosen) > 1:
        *first, last = (f"'--{name}'" for name in PARTS)
        raise click.UsageError(f"only one of {', '.join(first)}, or {last} can be specified")

    async def work(client: Client) -> None:
        shown = await client.post("/api/show", {"model": model, "verbose": verbose})
        click.echo(_part(shown, chosen[0]) if chosen else card.render(shown, verbose))

    _talk(address, work)


@commands.command()
@click.argument("model")
@click.pass_obj
def verify(address: str | None, /, model: str) -> None:
    """Compare MODEL's text with and without reading ahead."""

    async def work(client: Client) -> None:
        drafters = (await reading_ahead(client, model))["drafters"]
        click.echo(f"{model}, drafted by {' and '.join(drafters)}:")
        outcomes: list[proofs.Outcome] = []
        for kind, temperature in proofs.cases():
            for outcome in await proofs.verify(client, model, kind, temperature):
                click.echo(str(outcome))
                outcomes.append(outcome)
        click.echo(proofs.sentence(outcomes))
        if any(o.difference and not o.difference.is_near_tie for o in outcomes):
            raise DaemonError(
                f"{model} does not say the same with reading ahead; please report the lines above"
            )

    _talk(address, work)


@commands.command()
@click.argument("model")
@click.option("--streams", type=NUMBERS, default="1,2,4,8", help="Requests at a time.")
@click.option("--temperatures", type=NUMBERS, default="0,1", help="Of the answers.")
@click.option("--runs", type=click.IntRange(1), default=3, help="Of which medians are taken.")
@click.option("--num-predict", type=click.IntRange(8), default=128, help="Tokens of an answer.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Where the plots are written."
)
@click.pass_obj
def bench(
    address: str | None,
    /,
    model: str,
    streams: Sequence[float],
    temperatures: Sequence[float],
    runs: int,
    num_predict: int,
    html: Path | None,
) -> None:
    """Measure what reading ahead brings MODEL here."""
    page = html or Path(f"outrider-bench-{model.replace(':', '-').replace('/', '-')}.html")
    numbers = [int(number) for number in streams if number >= 1]

    async def work(client: Client) -> None:
        names = " and ".join((await reading_ahead(client, model))["drafters"])
        click.echo(f"{model}, drafted by {names}; ratios to plain decoding, and guesses accepted")
        click.echo(trials.header())
        results = []
        for row in trials.rows(numbers, temperatures):
            measured = []
            for run in range(runs + 1):  # the first brings prompts into the cache
                measured.append([await trials.measure(client, model, c, num_predict) for c in row])
                _progress(f"{row[0].kind}: run {run} of {runs}")
            results.append(trials.summarise(row, measured[1:]))
            _progress("")
            click.echo(trials.line(results[-1]))
            page.write_text(bench_page.render(model, names, results), encoding="utf-8")
        click.echo(f"plots: {page}")

    _talk(address, work)


@commands.command()
@click.argument("model")
@click.pass_obj
def stop(address: str | None, /, model: str) -> None:
    """Take MODEL out of memory."""

    async def work(client: Client) -> None:
        try:
            await errands.stop(client, model)
        except MissingModelError:
            raise MissingModelError(f'couldn\'t find model "{model}" to stop') from None

    _talk(address, work)


@commands.command()
@click.argument("source")
@click.argument("destination")
@click.pass_obj
def cp(address: str | None, /, source: str, destination: str) -> None:
    """Give a model a second name."""

    async def work(client: Client) -> None:
        await client.post("/api/copy", {"source": source, "destination": destination})
        click.echo(f"copied '{source}' to '{destination}'")

    _talk(address, work)


@commands.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.pass_obj
def rm(address: str | None, /, models: Sequence[str]) -> None:
    """Stop models and delete them."""

    async def work(client: Client) -> None:
        for model in models:
            await errands.stop(client, model)
            await client.delete("/api/delete", {"model": model})
            click.echo(f"deleted '{model}'")

    _talk(address, work)


def main() -> None:
    """The console entry: every end is an exit code and at most one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character is no reason to lose the rest of an answer.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(args: Sequence[str]) -> int:
    """Runs one command; 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        with commands.make_context("outrider", list(args)) as ctx:
            commands.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        hint = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        return _fail(error.format_message().rstrip(".") + hint, error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except OutriderError as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; what is buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the last border: no user shall read a traceback
        return _fail_unexpectedly(error)
    return 0


def _fail(text: str, code: int = 1) -> int:
    print(f"Error: {text}", file=sys.stderr)
    return code


def _fail_unexpectedly(error: Exception) -> int:
    with suppress(ConfigError):
        if Settings.load().debug:
            traceback.print_exception(error)
    return _fail(
        f"unexpected {type(error).__name__}: {error}: please report this; "
        "run with OUTRIDER_DEBUG=1 for the traceback"
    )


def _progress(text: str) -> None:
    """What is being done, on a line of stderr that the next one replaces."""
    if sys.stderr.isatty():
        print(progress.ERASE + text, end="", file=sys.stderr, flush=True)


def _talk(host: str | None, work: Callable[[Client], Awaitable[None]]) -> None:
    """Runs one command's work with a client for the daemon."""

    async def connected() -> None:
        async with Client(Settings.load(host=host).base_url) as client:
            await work(client)

    asyncio.run(connected())


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


async def _print_version(client: Client) -> None:
    own = version("outrider")
    click.echo(f"outrider version is {own}")
    try:
        await client.get("/api/version")
    except OutriderError:
        return  # a version is also asked for where no daemon runs
    if client.daemon_version not in (None, own):
        click.echo(f"Warning: the daemon's version is {client.daemon_version}", err=True)


def _part(shown: Json, part: str) -> str:
    return str(shown.get(part) or "").rstrip("\n")


def _with_stdin(prompt: str) -> str:
    """The prompt, and after it what was piped in."""
    if sys.stdin.isatty():
        return prompt
    try:
        piped = sys.stdin.read().strip()
    except UnicodeDecodeError:
        raise click.UsageError("what comes in on stdin is not UTF-8 text") from None
    return "\n".join(part for part in (prompt, piped) if part)


def _format(text: str | None) -> str | Json | None:
    if text is None or text == "json":
        return text
    try:
        schema = json.loads(text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise click.UsageError('--format takes "json" or a JSON schema, an object in braces')
    return schema


def _keep_alive(text: str | None) -> str | float | None:
    """A bare number means seconds; everything else is a Go duration (contract section 1.6)."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text
