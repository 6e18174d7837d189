"""Are models quantised by llama.cpp in a child process, and is nothing left of one that fails?"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from imatrices import write_binary, write_imatrix
from outrider.quant.__main__ import TaskFailed, check_space
from outrider.quant.gguf import read_header
from outrider.quant.quantize import (
    QuantizeError,
    QuantizeJob,
    QuantizeProgress,
    count_tokens,
    quantize,
)
from outrider.quant.types import FILE_TYPES, FileType, find_file_type
from tiny import write_llama

pytestmark = pytest.mark.model

WIDTH = 256  # a whole block of every type


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(
        tmp_path_factory.mktemp("f32") / "model.gguf", layers=1, embd=WIDTH, ffn=WIDTH
    )


async def run(job: QuantizeJob) -> list[QuantizeProgress]:
    return [progress async for progress in quantize(job)]


def children() -> list[psutil.Process]:
    """The processes that quantise; others belong to other tests."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # also of a zombie
            found += [child] if "outrider.quant" in child.cmdline() else []
    return found


def columns_of(source: Path) -> dict[str, np.ndarray]:
    """The importance of the columns of every matrix: all count, and some more than others."""
    rng = np.random.default_rng(0)
    matrices = [t for t in read_header(source).tensors if len(t.shape) > 1]
    return {t.name: rng.uniform(1, 9, t.shape[0]).astype(np.float32) for t in matrices}


@pytest.mark.parametrize("file_type", FILE_TYPES, ids=lambda each: each.name)
async def test_every_type_is_written(file_type: FileType, source: Path, tmp_path: Path) -> None:
    columns = columns_of(source)
    matrix = write_binary(tmp_path / "imatrix.dat", columns, calls=1)
    target = tmp_path / "out.gguf"
    steps = await run(
        QuantizeJob(source=source, target=target, file_type=file_type, imatrix=matrix)
    )
    header = read_header(target)
    assert header.number("general.file_type") == file_type.number
    assert header.quantisation == file_type.name.removesuffix("_MOE")
    assert header.number("quantize.imatrix.entries_count") == len(columns)
    done = [step.completed_bytes for step in steps]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, steps[-1].total_bytes)
    assert len(set(done)) > 5


async def test_an_importance_matrix_changes_the_weights(source: Path, tmp_path: Path) -> None:
    columns, contents = columns_of(source), set()
    gguf = write_imatrix(tmp_path / "i.gguf", columns, {name: [1.0] for name in columns})
    for matrix in (None, gguf):
        target = tmp_path / "out.gguf"
        file_type = find_file_type("q4_k_m")
        job = QuantizeJob(source=source, target=target, file_type=file_type, imatrix=matrix)
        await run(job)
        block = next(t for t in read_header(target).tensors if t.name == "blk.0.ffn_up.weight")
        data = target.read_bytes()[block.offset : block.offset + block.size_bytes]
        contents.add(data)
    assert len(contents) == 2


def without_matrix(source: Path, folder: Path) -> QuantizeJob:
    return QuantizeJob(source=source, target=folder / "o", file_type=find_file_type("iq2_xs"))


def with_other_matrix(source: Path, folder: Path) -> QuantizeJob:
    columns = {name: values[:7] for name, values in columns_of(source).items()}
    matrix = write_binary(folder / "imatrix.dat", columns, calls=1)
    target, file_type = folder / "o", find_file_type("Q4_K_S")
    return QuantizeJob(source=source, target=target, file_type=file_type, imatrix=matrix)


def with_text_as_matrix(source: Path, folder: Path) -> QuantizeJob:
    (folder / "text").write_text("no matrix, but some text")
    target, file_type = folder / "o", find_file_type("Q4_K_S")
    return QuantizeJob(source=source, target=target, file_type=file_type, imatrix=folder / "text")


def with_unknown_architecture(_source: Path, folder: Path) -> QuantizeJob:
    source = write_llama(folder / "a.gguf", embd=WIDTH)
    source.write_bytes(source.read_bytes().replace(b"llama", b"lorem", 1))
    return QuantizeJob(source=source, target=folder / "o", file_type=find_file_type("Q8_0"))


FAILURES: dict[str, tuple[Callable[[Path, Path], QuantizeJob], str]] = {
    "requires an importance matrix": (without_matrix, "requires an importance matrix"),
    "of another model": (with_other_matrix, "imatrix size 7 is different from tensor size 256"),
    "no matrix": (with_text_as_matrix, "is no usable importance matrix"),
    "architecture": (with_unknown_architecture, "unknown model architecture: 'lorem'"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_one_error_and_leaves_nothing(
    name: str, source: Path, tmp_path: Path
) -> None:
    make, text = FAILURES[name]
    job = make(source, tmp_path)
    before = set(os.listdir(tmp_path))
    with pytest.raises(QuantizeError, match=text):
        await run(job)
    assert set(os.listdir(tmp_path)) == before


async def test_a_quantised_source_is_refused_unless_that_is_wanted(
    source: Path, tmp_path: Path
) -> None:
    q8 = tmp_path / "q8.gguf"
    q4 = QuantizeJob(source=q8, target=tmp_path / "q4.gguf", file_type=find_file_type("Q4_0"))
    await run(QuantizeJob(source=source, target=q8, file_type=find_file_type("Q8_0")))
    with pytest.raises(QuantizeError, match="only supported for F16, BF16 and F32 models"):
        await run(q4)
    assert not q4.target.exists()
    again = QuantizeJob(
        source=q8, target=q4.target, file_type=find_file_type("Q4_0"), requantize=True
    )
    await run(again)
    assert read_header(again.target).quantisation == "Q4_0"


def test_too_little_space_is_an_error_with_both_numbers(source: Path, tmp_path: Path) -> None:
    check_space(source, tmp_path / "out.gguf", size_bytes=1)
    with pytest.raises(TaskFailed, match=r"1152921504606\.[89] MB are needed, \d+\.\d MB are free"):
        check_space(source, tmp_path / "out.gguf", size_bytes=1 << 60)


async def _kill_during(job: QuantizeJob) -> None:
    async with aclosing(quantize(job)) as steps:
        async for step in steps:
            if step.completed_bytes:
                for child in children():  # none after it was killed at an earlier step
                    os.kill(child.pid, signal.SIGKILL)


async def test_a_crash_of_the_child_is_one_error(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    job = QuantizeJob(source=source, target=target, file_type=find_file_type("IQ3_S"), threads=1)
    with pytest.raises(QuantizeError, match="was ended by SIGKILL"):
        await _kill_during(job)
    assert not target.exists()


async def test_cancelling_ends_the_child_and_removes_the_file(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    job = QuantizeJob(source=source, target=target, file_type=find_file_type("IQ3_S"), threads=1)
    async with aclosing(quantize(job)) as steps:
        async for step in steps:
            if step.completed_bytes:
                assert target.exists()
                break
    assert not target.exists()
    assert children() == []


async def test_the_child_ends_with_its_parent() -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outrider.quant"), stdin=asyncio.subprocess.PIPE
    )
    assert child.stdin
    child.stdin.close()
    assert await asyncio.wait_for(child.wait(), 30) != 0


async def test_tokens_are_counted_with_the_vocabulary_of_a_model(
    source: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("the the the" + "\n" * 3 + "x" * 10_000)
    counts = await count_tokens(source, text)
    assert sorted(counts.values()) == [1, 2, 3, 10_000]
    with pytest.raises(QuantizeError, match="cannot be used: No such file"):
        await count_tokens(source, tmp_path / "absent")
