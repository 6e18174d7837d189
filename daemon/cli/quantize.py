"""The command `outrider quantize`: a GGUF file with another file type, or a drafter's head trimmed.

It needs no daemon.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import click

from ..errors import OutriderError
from .client import Json
from .progress import ProgressView

COPY = "COPY"  # the type of a file whose tensors keep theirs


class QuantizeFailed(OutriderError):
    """The file could not be written."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What the user asks for; `file_type` is a name, or COPY."""

    source: Path
    target: Path
    file_type: str
    imatrix: Path | None
    threads: int | None
    requantize: bool
    draft_vocab: int | None
    vocab_text: Path | None


@click.command()
@click.argument("source", metavar="INPUT.gguf", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUTPUT.gguf", type=click.Path(path_type=Path))
@click.argument("file_type", metavar="TYPE")
@click.option(
    "--imatrix", metavar="FILE", type=click.Path(path_type=Path), help="An importance matrix."
)
@click.option(
    "--threads", metavar="N", type=click.IntRange(min=1), help="[default: physical cores]"
)
@click.option(
    *("--allow-requantize", "requantize"),
    is_flag=True,
    help="Accept an input that is quantized already, and lose more.",
)
@click.option(
    "--draft-vocab",
    metavar="N",
    type=click.IntRange(min=1),
    help="Of a drafter: keep the head of the N commonest tokens.",
)
@click.option(
    "--vocab-text",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A text whose tokens are the commonest.  [default: the order of the vocabulary]",
)
def quantize(**options: object) -> None:
    """Write a GGUF file with another file type TYPE, such as Q4_K_M; COPY keeps the tensors.

    The types are listed in quant/README.md, and by a type that does not exist.
    """
    chosen = QuantizeOptions(**options)  # type: ignore[arg-type]  # as click has converted them
    if chosen.vocab_text and not chosen.draft_vocab:
        raise click.UsageError("--vocab-text needs --draft-vocab")
    asyncio.run(_show(chosen))


async def _show(options: QuantizeOptions) -> None:
    progress = ProgressView(sys.stderr)
    try:
        async with aclosing(_lines(options)) as lines:
            async for line in lines:
                progress.show(line)
    finally:
        progress.close()


async def _lines(options: QuantizeOptions) -> AsyncGenerator[Json, None]:
    """Lines like those of a pull (CONTRACT 1.16). Raises QuantizeFailed."""
    from ...quant.output import OutputJob, write_output  # slow, and for this command alone
    from ...quant.quantize import QuantizeError
    from ...quant.types import UnknownFileType, find_file_type

    try:
        is_copy = options.file_type.upper() == COPY
        job = OutputJob(
            source=options.source,
            target=options.target,
            file_type=None if is_copy else find_file_type(options.file_type),
            imatrix=options.imatrix,
            threads=options.threads,
            requantize=options.requantize,
            draft_vocab=options.draft_vocab,
            vocab_text=options.vocab_text,
        )
        async with aclosing(write_output(job)) as steps:
            async for step in steps:
                sizes = {"completed": step.completed_bytes, "total": step.total_bytes}
                yield {"status": step.status, **(sizes if step.total_bytes else {})}
    except (QuantizeError, UnknownFileType) as error:
        raise QuantizeFailed(str(error)) from error
