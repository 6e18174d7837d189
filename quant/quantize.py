"""How is a GGUF file written with another file type, by llama.cpp in a child process?"""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from .gguf import GGUFError, Header, read_header
from .tasks import (
    CountReport,
    CountTask,
    DoneReport,
    FailureReport,
    QuantizeTask,
    Report,
    Task,
    TensorReport,
    decode_report,
    encode,
    last_lines,
)
from .types import FileType

# The tensor types of a model that is not quantised; integers are tables, such as d2t of EAGLE-3.
_PLAIN_KINDS: Final = frozenset({"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"})
_MAX_LINE_BYTES: Final = 1 << 24  # of a report; the counts of a vocabulary are the longest
_LOG_BYTES: Final = 1 << 16  # of stderr that are kept


class QuantizeError(Exception):
    """A file could not be written with that file type; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeJob:
    """`source` is written as `target`, which is removed again if that fails."""

    source: Path
    target: Path
    file_type: FileType
    imatrix: Path | None = None
    threads: int | None = None  # None: as many as the machine has physical cores
    requantize: bool = False  # whether a source that is quantised already is accepted
    inherited: tuple[int, ...] = ()  # descriptors of locks that the child holds, too


@dataclass(frozen=True, slots=True)
class QuantizeProgress:
    """Bytes of the source's tensors that are written, and of all of them."""

    completed_bytes: int
    total_bytes: int


async def quantize(job: QuantizeJob) -> AsyncGenerator[QuantizeProgress, None]:
    """Writes the target and yields progress; closing the generator removes it. Raises
    QuantizeError and GGUFError, the latter for a source that is no usable GGUF file."""
    header = await asyncio.to_thread(read_header, job.source)
    check_source(header, job)
    sizes = {tensor.name: tensor.size_bytes for tensor in header.tensors}
    total = sum(sizes.values())
    is_done = False
    try:
        async with aclosing(run_task(_task(job), job.inherited)) as reports:
            yield QuantizeProgress(0, total)
            completed = current = 0
            async for report in reports:
                if isinstance(report, TensorReport):
                    completed, current = completed + current, sizes.get(report.name, 0)
                    yield QuantizeProgress(completed, total)
        await asyncio.to_thread(_check_target, job.target)
        is_done = True
        yield QuantizeProgress(total, total)
    finally:
        if not is_done:
            job.target.unlink(missing_ok=True)


def check_source(header: Header, job: QuantizeJob) -> None:
    """Raises QuantizeError if the source cannot be quantised (CONTRACT 7.4)."""
    if not header.tensors:
        raise QuantizeError(f"{job.source} has no tensors: there is nothing to quantize")
    if (header.number("split.count") or 1) > 1:
        raise QuantizeError(
            f"{job.source} is one part of a split model; join them with llama-gguf-split --merge"
        )
    if not job.requantize and not is_plain(header):
        raise QuantizeError("quantization is only supported for F16, BF16 and F32 models")


def is_plain(header: Header) -> bool:
    """Whether no tensor is quantised."""
    return all(tensor.kind in _PLAIN_KINDS for tensor in header.tensors)


async def count_tokens(model: Path, text: Path) -> Mapping[int, int]:
    """How often each token occurs in a text, with a model's vocabulary. Raises QuantizeError."""
    counts: Mapping[int, int] = {}
    async with aclosing(run_task(CountTask(str(model), str(text)), ())) as reports:
        async for report in reports:
            if isinstance(report, CountReport):
                counts = report.counts
    return counts


def physical_cores() -> int:
    """Threads that compute well together; hyper-threads share the units that quantising needs."""
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


async def run_task(task: Task, inherited: tuple[int, ...]) -> AsyncGenerator[Report, None]:
    """The reports of a child process. Closing the generator kills it. Raises QuantizeError."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outrider.quant"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
        start_new_session=True,  # an interrupt of the terminal reaches the parent alone
        pass_fds=inherited,
    )
    assert child.stdin
    assert child.stdout
    assert child.stderr
    log = asyncio.create_task(_tail(child.stderr))
    try:
        child.stdin.write(encode(task))  # stays open: the child ends when it is closed
        last: Report | None = None
        async for line in child.stdout:
            last = decode_report(line)
            if isinstance(last, FailureReport):
                raise QuantizeError(last.text)
            yield last
        if await child.wait() or not isinstance(last, DoneReport):
            raise QuantizeError(_crash(child.returncode or 0, await log))
    finally:
        if child.returncode is None:
            child.kill()
        child.stdin.close()
        await asyncio.shield(child.wait())
        log.cancel()


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """The last bytes of a stream, read to its end so that its writer never waits."""
    tail = b""
    while chunk := await stream.read(_LOG_BYTES):
        tail = (tail + chunk)[-_LOG_BYTES:]
    return tail


def _crash(code: int, log: bytes) -> str:
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    said = "; ".join(last_lines(log, 3)) or "it said nothing"
    return f"llama.cpp's quantizer was ended {how}: {said}"


def _task(job: QuantizeJob) -> QuantizeTask:
    return QuantizeTask(
        source=str(job.source),
        target=str(job.target),
        file_type=job.file_type.number,
        threads=job.threads or physical_cores(),
        imatrix=str(job.imatrix or ""),
        requantize=job.requantize,
    )


def _check_target(target: Path) -> None:
    """Raises QuantizeError unless the written file is complete."""
    try:
        read_header(target)
    except GGUFError as error:
        raise QuantizeError(f"the quantized file is not usable: {error}") from error
