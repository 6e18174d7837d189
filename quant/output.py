"""How does a user's file get written: trimmed, quantised, and complete or not at all?"""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import TypeVar

from .draft_vocab import (
    SCORES,
    TYPES,
    DraftVocabError,
    check_drafter,
    commonest,
    read_vocabulary,
    trim,
)
from .gguf import GGUFError, read_header
from .quantize import QuantizeError, QuantizeJob, count_tokens, quantize
from .types import FileType

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputJob:
    """`target` is written from `source`, and replaced only when the new file is complete."""

    source: Path
    target: Path
    file_type: FileType | None  # None: the tensors keep their types
    imatrix: Path | None = None
    threads: int | None = None
    requantize: bool = False
    draft_vocab: int | None = None  # tokens of a drafter's head; None keeps it whole
    vocab_text: Path | None = None  # a text that tells which tokens are the commonest


@dataclass(frozen=True, slots=True)
class OutputStep:
    """What is being done, and bytes of the source's tensors that are written, if they are."""

    status: str
    completed_bytes: int = 0
    total_bytes: int = 0


Steps = AsyncGenerator[OutputStep, None]


async def write_output(job: OutputJob) -> Steps:
    """Writes the target and yields progress. Raises QuantizeError; closing the generator, like an
    error, leaves the folder as it was."""
    folder, unique = job.target.absolute().parent, secrets.token_hex(4)
    trimmed = folder / f".{job.target.name}.{unique}-trimmed"
    written = folder / f".{job.target.name}.{unique}-partial"
    try:
        _check(job)
        _reserve(written, job.target)
        source = job.source
        if job.draft_vocab:
            async with aclosing(_trim(job, trimmed)) as steps:
                async for step in steps:
                    yield step
            source = trimmed
        if job.file_type:
            async with aclosing(_quantize(job, source, written, job.file_type)) as steps:
                async for step in steps:
                    yield step
        else:
            trimmed.rename(written)
        await _in_thread(lambda: _install(written, job.target))
    except (GGUFError, DraftVocabError) as error:
        raise QuantizeError(str(error).replace(str(trimmed), str(job.source))) from error
    except OSError as error:
        path = error.filename or job.target
        raise QuantizeError(f"{path} cannot be used: {error.strerror}") from error
    finally:
        for path in (trimmed, written):
            path.unlink(missing_ok=True)
    yield OutputStep("success")


def _check(job: OutputJob) -> None:
    if not job.source.is_file():
        raise QuantizeError(f"{job.source}: there is no such file")
    if not job.target.absolute().parent.is_dir():
        raise QuantizeError(f"{job.target}: there is no such folder")
    if job.target.is_dir() or (job.target.exists() and job.target.samefile(job.source)):
        raise QuantizeError(f"{job.target} cannot be written: give the name of another file")
    if job.file_type is None and not job.draft_vocab:
        raise QuantizeError("the output would be the input: give a type or --draft-vocab")


def _reserve(path: Path, target: Path) -> None:
    """Makes the file that becomes the target, since llama.cpp does not say why it cannot."""
    try:
        path.touch(exist_ok=False)
    except OSError as error:
        raise QuantizeError(f"{target} cannot be written: {error.strerror}") from error


async def _trim(job: OutputJob, target: Path) -> Steps:
    header = await asyncio.to_thread(read_header, job.source, arrays={TYPES, SCORES})
    check_drafter(header)
    free = disk_usage(target.parent).free
    if free < header.size_bytes:
        raise QuantizeError(
            f"not enough disk space in {target.parent}: {header.size_bytes / 1e6:.1f} MB are "
            f"needed, {free / 1e6:.1f} MB are free"
        )
    counts: Mapping[int, int] = {}
    if job.vocab_text:
        yield OutputStep(f"counting the tokens of {job.vocab_text.name}")
        counts = await count_tokens(job.source, job.vocab_text)
    kept = commonest(read_vocabulary(header), job.draft_vocab or 0, counts)
    yield OutputStep(f"trimming the head to {len(kept)} tokens")
    await _in_thread(lambda: trim(job.source, target, kept))


async def _quantize(job: OutputJob, source: Path, target: Path, file_type: FileType) -> Steps:
    inner = QuantizeJob(
        source=source,
        target=target,
        file_type=file_type,
        imatrix=job.imatrix,
        threads=job.threads,
        requantize=job.requantize,
    )
    status = f"quantizing to {file_type.name}"
    async with aclosing(quantize(inner)) as steps:
        async for step in steps:
            yield OutputStep(status, step.completed_bytes, step.total_bytes)


async def _in_thread(work: Callable[[], T]) -> T:
    """The result of `work`; a cancelled caller still waits for its end, so that it writes no file
    after its caller has removed it."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the cancelled task cannot


def _install(written: Path, target: Path) -> None:
    descriptor = os.open(written, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    written.replace(target)
