"""`serve`: with which settings does the daemon start?"""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from pathlib import Path

import click

from ..config import Settings
from .environment import ServeCommand
from .progress import follow


@click.command(cls=ServeCommand)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 11434]")
@click.option("--models", type=click.Path(path_type=Path), help="Where models are stored.")
@click.option("--keep-alive", help="How long an idle model stays loaded, such as 5m.")
@click.option("--load-timeout", help="How long a load may go without progress, such as 5m.")
@click.option("--num-parallel", type=int, help="Slots of a model: requests decoded at a time.")
@click.option("--context-length", type=int, help="Tokens of context for each request.")
@click.option("--max-loaded-models", type=int, help="Loaded models at a time.")
@click.option("--memory-limit", help="Host memory for all models, such as 16GiB.")
@click.option("--max-queue", type=int, help="Requests that may wait for a load.")
@click.option("--flash-attention", help="true or false.  [default: llama.cpp chooses]")
@click.option("--kv-cache-type", help="f32, f16, q8_0 or q4_0.")
@click.option("--speculation", help="Draft tokens per step: auto, off, or a number.")
@click.option("--draft", metavar="FILE", help="A drafter's GGUF, for models without one.")
@click.option("--priority", help="background: other programs go first.  [default: normal]")
@click.option("--origins", help="Further web origins that may call, separated by commas.")
@click.option("--api-key-file", metavar="FILE", help="API keys that requests need, one a line.")
@click.option("--key-parallel", type=int, help="Requests that an API key may run at a time.")
@click.option(
    "--insecure-listen", is_flag=True, default=None, help="Let others in without an API key."
)
@click.option("--log-format", help="text or json.")
@click.option("--go-template", help="Go templates first: true or false. [default: the better one]")
@click.option("--debug", is_flag=True, default=None, help="Log more.")
@click.option("--pull", metavar="MODEL", help="Fetch this model first if it is missing.")
@click.pass_obj
def serve(
    address: str | None, /, host: str | None, port: int | None, pull: str | None, **flags: object
) -> None:
    """Start the daemon."""
    load = partial(Settings.load, port=port, host=host or address, **flags)
    load()  # a bad setting is told before the server is imported
    # Nothing of what is imported becomes garbage. To look through it takes the collector 40 ms at a
    # time, for which all streams would wait.
    gc.disable()
    # Imported here, so that the other commands start without the server.
    from .. import serving

    gc.freeze()
    gc.enable()
    asyncio.run(serving.serve(load, pull, follow))
