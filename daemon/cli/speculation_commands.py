"""`verify` and `bench`: is speculative decoding exact and fast on this machine?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from . import bench as bench_runs
from . import bench_page, progress
from . import verify as verification
from .bench_prompts import speculation_of
from .client import Client, DaemonError
from .connect import with_client
from .environment import EnvironmentCommand
from .model_name import STORED
from .parameter_types import NumberList

NUMBERS = NumberList()


@click.command(cls=EnvironmentCommand)
@click.argument("model", type=STORED)
@with_client
async def verify(client: Client, /, model: str) -> None:
    """Compare MODEL's text with and without speculative decoding."""
    drafters = (await speculation_of(client, model))["drafters"]
    click.echo(f"{model}, drafted by {' and '.join(drafters)}:")
    outcomes: list[verification.Outcome] = []
    for kind, temperature in verification.cases():
        for outcome in await verification.verify(client, model, kind, temperature):
            click.echo(str(outcome))
            outcomes.append(outcome)
    click.echo(verification.sentence(outcomes))
    if any(o.difference and not o.difference.is_near_tie for o in outcomes):
        raise DaemonError(
            f"speculative decoding changes the text of {model}; please report the lines above"
        )


@click.command(cls=EnvironmentCommand)
@click.argument("model", type=STORED)
@click.option("--streams", type=NUMBERS, default="1,2,4,8", help="Concurrent requests, a list.")
@click.option("--temperatures", type=NUMBERS, default="0,1", help="Sampling temperatures, a list.")
@click.option(
    "--runs", type=click.IntRange(1), default=3, help="Runs per cell; the table has medians."
)
@click.option("--num-predict", type=click.IntRange(8), default=128, help="Tokens per answer.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="The file for the plots."
)
@with_client
async def bench(
    client: Client,
    /,
    model: str,
    streams: Sequence[float],
    temperatures: Sequence[float],
    runs: int,
    num_predict: int,
    html: Path | None,
) -> None:
    """Measure the speed of MODEL with and without speculative decoding."""
    page = html or Path(f"outrider-bench-{model.replace(':', '-').replace('/', '-')}.html")
    numbers = [int(number) for number in streams if number >= 1]
    names = " and ".join((await speculation_of(client, model))["drafters"])
    click.echo(f"{model}, drafted by {names}; ratios to plain decoding, and acceptance rates")
    click.echo(bench_runs.header())
    results = []
    for row in bench_runs.rows(numbers, temperatures):
        measured = []
        for run in range(runs + 1):  # the first run fills the prefix cache
            measured.append([await bench_runs.measure(client, model, c, num_predict) for c in row])
            _progress(f"{row[0].kind}: run {run} of {runs}")
        results.append(bench_runs.summarise(row, measured[1:]))
        _progress("")
        click.echo(bench_runs.line(results[-1]))
        page.write_text(bench_page.render(model, names, results), encoding="utf-8")
    click.echo(f"plots: {page}")


def _progress(text: str) -> None:
    """Shows the current step on a line of stderr that the next call replaces."""
    if sys.stderr.isatty():
        print(progress.ERASE + text, end="", file=sys.stderr, flush=True)
