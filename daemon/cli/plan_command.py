"""The command `outrider plan`: what would a model take in memory, here or on another machine?"""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..byte_size import parse_bytes
from . import plan_view
from .client import Client
from .connect import with_client
from .environment import EnvironmentCommand
from .model_name import STORED

OFF = "off"
MAX_GPUS = 16  # llama_max_devices()
LEAST_BYTES, MOST_BYTES = 1 << 20, 1 << 50  # of a GPU; fewer bytes are a size without its unit
NO_GPU_SIZE = "{!r} is {:,} bytes, which is no GPU's memory; name a size such as 24GiB"
TOO_MANY = "{} GPUs are named, and llama.cpp uses {} at most"
KV_TYPES = ("f32", "f16", "q8_0", "q4_0")


class DraftFile(click.ParamType[str]):
    """A path, which the daemon gets as an absolute one, or "off"."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Never fails: the daemon says whether the file is there."""
        return value if value == OFF else str(Path(value).expanduser().absolute())

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shell's own completion of files."""
        return [CompletionItem(incomplete, type="file")]


class SizeList(click.ParamType[tuple[int, ...]]):
    """Memory of GPUs in bytes, separated by commas; 0 stands for none."""

    name = "sizes"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Raises click.BadParameter."""
        parts = value.split(",")
        if len(parts) > MAX_GPUS:
            self.fail(TOO_MANY.format(len(parts), MAX_GPUS), param, ctx)
        try:
            sizes = tuple(map(parse_bytes, parts))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        for part, size in zip(parts, sizes, strict=True):
            if size and not LEAST_BYTES <= size <= MOST_BYTES:
                self.fail(NO_GPU_SIZE.format(part.strip(), size), param, ctx)
        return sizes


@click.command(cls=EnvironmentCommand)
@click.argument("model", type=STORED)
@click.option("--ctx", type=click.IntRange(1), metavar="N", help="Tokens of context of a request.")
@click.option("--slots", type=click.IntRange(1, 64), metavar="N", help="Requests at a time.")
@click.option("--kv", type=click.Choice(KV_TYPES), help="Type of the KV cache.")
@click.option(
    "--memory",
    type=SizeList(),
    metavar="SIZES",
    help="Plan for one GPU of each size, such as 24GiB or 24GiB,24GiB; 0: the CPU alone.",
)
@click.option(
    "--draft", type=DraftFile(), metavar="FILE|off", help="The drafter: a GGUF file, or none."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@with_client
async def plan(
    client: Client,
    /,
    model: str,
    ctx: int | None,
    slots: int | None,
    kv: str | None,
    memory: tuple[int, ...] | None,
    draft: str | None,
    as_json: bool,
) -> None:
    """Show what MODEL would take in memory, by device and part. Nothing is loaded."""
    wishes = {
        "options": {"num_ctx": ctx} if ctx else None,
        "slots": slots,
        "kv_cache_type": kv,
        "memory": None if memory is None else list(memory),
        "draft": draft,
    }
    given = {name: wish for name, wish in wishes.items() if wish is not None}
    answer = await client.post("/api/plan", {"model": model, **given})
    click.echo(json.dumps(answer, indent=2) if as_json else plan_view.planned(answer, memory))
