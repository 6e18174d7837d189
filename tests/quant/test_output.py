"""Is a user's file written whole or not at all, trimmed and quantised?"""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest
from outrider.quant.gguf import EveryArray, read_header
from outrider.quant.output import OutputJob, OutputStep, write_output
from outrider.quant.quantize import QuantizeError
from outrider.quant.types import find_file_type
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant

pytestmark = pytest.mark.model

Q8 = find_file_type("Q8_0")


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assistant")
    return write_gemma4_assistant(folder / "a.gguf", write_gemma4(folder / "t.gguf"))


async def run(job: OutputJob) -> list[OutputStep]:
    return [step async for step in write_output(job)]


async def test_a_drafter_is_trimmed_by_a_text_and_quantised(
    assistant: Path, tmp_path: Path
) -> None:
    text, target = tmp_path / "text", tmp_path / "out.gguf"
    text.write_text("zzz the")
    target.write_text("an older file, which is replaced")
    job = OutputJob(source=assistant, target=target, file_type=Q8, draft_vocab=5, vocab_text=text)
    statuses = dict.fromkeys(step.status for step in await run(job))
    assert list(statuses) == [
        *("counting the tokens of text", "trimming the head to 5 tokens"),
        *("quantizing to Q8_0", "success"),
    ]
    header = read_header(target, arrays=EveryArray())
    texts = header.values["tokenizer.ggml.tokens"]
    assert texts == ["\x00".replace("\x00", "Ā"), "z", "Ġthe", "<|endoftext|>", "<|im_end|>"]
    assert header.quantisation == "Q8_0"
    assert _names(tmp_path) == {"text", "out.gguf"}


async def test_tensors_can_keep_their_types(assistant: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    await run(OutputJob(source=assistant, target=target, file_type=None, draft_vocab=32))
    kinds = {tensor.kind for tensor in read_header(target).tensors}
    assert kinds == {"F32"}


async def test_closing_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    source, target = write_llama(tmp_path / "m.gguf", embd=256), tmp_path / "out.gguf"
    target.write_text("an older file")
    job = OutputJob(source=source, target=target, file_type=find_file_type("IQ3_S"), threads=1)
    async with aclosing(write_output(job)) as steps:
        async for step in steps:
            if step.completed_bytes:
                assert len(_names(tmp_path)) == 3
                break
    assert _names(tmp_path) == {"m.gguf", "out.gguf"}
    assert target.read_text() == "an older file"


async def test_a_failure_leaves_the_folder_as_it_was(assistant: Path, tmp_path: Path) -> None:
    source = write_llama(tmp_path / "m.gguf")
    out, text = tmp_path / "out.gguf", tmp_path / "text"
    text.write_text("no model")
    for job, message in (
        (OutputJob(source=tmp_path / "no", target=out, file_type=Q8), "there is no such file"),
        (OutputJob(source=source, target=source, file_type=Q8), "the name of another file"),
        (OutputJob(source=source, target=tmp_path / "no" / "o", file_type=Q8), "no such folder"),
        (OutputJob(source=source, target=out, file_type=None), "the output would be the input"),
        (OutputJob(source=text, target=out, file_type=Q8), "is not a GGUF file"),
        (OutputJob(source=source, target=out, file_type=Q8, draft_vocab=9), "cannot be trimmed"),
        (OutputJob(source=assistant, target=out, file_type=Q8, draft_vocab=999), "fewer are kept"),
    ):
        with pytest.raises(QuantizeError, match=message):
            await run(job)
        assert _names(tmp_path) == {"m.gguf", "text"}


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


async def test_a_folder_that_cannot_be_written_is_named_before_any_work(tmp_path: Path) -> None:
    """Nobody can make files in /proc, whatever the user's rights."""
    source = write_llama(tmp_path / "m.gguf", embd=256)
    target = Path("/proc/out.gguf")
    with pytest.raises(QuantizeError, match=r"^/proc/out\.gguf cannot be written: \w+"):
        await run(OutputJob(source=source, target=target, file_type=Q8))
