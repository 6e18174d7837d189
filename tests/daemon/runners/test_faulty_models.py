"""Models with faults: each costs its own requests or its own load, and nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from gguf import GGUFReader
from harness import load_spec, text_request
from outrider.daemon.chat.conversation import Conversation, Message
from outrider.daemon.errors import BadRequest, LoadFailed, OutriderError, RunnerDied
from outrider.daemon.protocol import Delta, Load, Sampling, Submit
from outrider.daemon.runners.process import RunnerProcess
from tiny import write_llama
from tiny_bert import write_bert

pytestmark = pytest.mark.model

LOAD_S = 60.0  # far above what a load takes that is refused
WARM = Sampling(temperature=0.9, seed=7)


def poison(path: Path, tensor: str, value: float) -> Path:
    """Sets all weights of a tensor to this value."""
    reader = GGUFReader(path, "r+")
    (found,) = (each for each in reader.tensors if each.name == tensor)
    found.data[:] = np.float32(value)
    del reader
    return path


@asynccontextmanager
async def started(load: Load) -> AsyncIterator[RunnerProcess]:
    runner = await RunnerProcess.start(load)
    try:
        yield runner
    finally:
        await runner.stop()


async def collect(runner: RunnerProcess, request: Submit) -> list[Delta]:
    return [delta async for delta in runner.submit(request)]


REQUESTS = {
    "greedy": text_request(0, "hello hello hello", 8),
    "warm": text_request(0, "hello hello hello", 8, sampling=WARM),
    "mirostat": text_request(0, "hello", 8, sampling=Sampling(mirostat=2)),
    "logprobs": text_request(0, "hello", 8, num_logprobs=3),
    "schema": text_request(0, "hello", 8, schema='{"type": "object"}'),
    "scored": msgspec.structs.replace(text_request(0, "hello", 8), scored=("yes", "no")),
    "chat": Submit(0, Conversation((Message("user", "hello"),))),
    "drafts": msgspec.structs.replace(text_request(0, "hello hello", 8), draft_fixed=4),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
async def test_logits_that_are_not_finite_fail_their_request_alone(
    tmp_path: Path, value: float
) -> None:
    gguf = poison(write_llama(tmp_path / "t.gguf", seed=1), "output_norm.weight", value)
    changes: dict[str, int | str | bool] = {"speculation": 4} if value == value else {}
    async with started(load_spec(gguf, **changes)) as runner:
        for name, request in REQUESTS.items():
            with pytest.raises(OutriderError) as caught:
                await collect(runner, request)
            assert not isinstance(caught.value, RunnerDied), name
        assert runner.is_alive


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), WARM])
async def test_a_drafter_that_is_not_finite_costs_no_text(
    tmp_path: Path, sampling: Sampling
) -> None:
    target = write_llama(tmp_path / "target.gguf", seed=1)
    drafter = poison(
        write_llama(tmp_path / "draft.gguf", seed=1), "output_norm.weight", float("nan")
    )
    request = msgspec.structs.replace(text_request(0, "hello hello", 16, sampling=sampling))
    texts = []
    for path in ("", str(drafter)):
        changes: dict[str, int | str | bool] = {"draft": path, "speculation": 4} if path else {}
        async with started(load_spec(target, **changes)) as runner:
            texts.append("".join(delta.text for delta in await collect(runner, request)))
            assert runner.is_alive
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "extra",
    [
        {"general.name": "x" * 200_000},
        {"tokenizer.ggml.pre": "x" * 3_000_000},
        {"tokenizer.ggml.model": "x" * 3_000_000},
        {"general.architecture": "x" * 200_000},
        {"tokenizer.chat_template": "{% for i in range(10**9) %}{% endfor %}" + "x" * 3_000_000},
        {"llama.block_count": 2**31 - 1},
        {"llama.context_length": 2**31 - 1},
        {"llama.embedding_length": 2**31 - 64},
        {"llama.attention.head_count": 2**31 - 1},
        {"llama.vocab_size": 2**31 - 1},
        {"llama.rope.dimension_count": 2**31 - 1},
    ],
    ids=lambda extra: f"{next(iter(extra))} {len(str(next(iter(extra.values()))))}",
)
async def test_an_absurd_header_costs_its_own_load(
    tmp_path: Path, extra: dict[str, object], measurements: list[str]
) -> None:
    gguf = write_llama(tmp_path / "t.gguf", seed=1, extra=extra)
    load = msgspec.structs.replace(load_spec(gguf), host_bytes=100 << 20)
    start_s = time.monotonic()
    outcome = "loaded"
    try:
        runner = await RunnerProcess.start(load, stall_s=LOAD_S)
    except LoadFailed as error:
        outcome = str(error)
    else:
        peak = psutil.Process(runner.pid).memory_info().rss
        outcome = f"loaded, {peak >> 20} MiB"
        request = Submit(0, Conversation((Message("user", "hello"),)))
        try:
            await collect(runner, request)
        except BadRequest as error:
            outcome += f"; {str(error)[:80]}"
        await runner.stop()
    took_s = time.monotonic() - start_s
    measurements.append(f"{next(iter(extra))}: {took_s:.1f} s, {outcome[:60]}")
    assert took_s < 20
    assert len(outcome) < 2200


async def test_an_encoder_that_ends_the_process_costs_its_own_load(tmp_path: Path) -> None:
    extra = {"bert.attention.layer_norm_epsilon": -1.0}  # against an assertion of ggml
    load = load_spec(write_bert(tmp_path / "e.gguf", extra=extra), embedding=True)
    with pytest.raises(LoadFailed, match="terminated: signal 6"):
        await RunnerProcess.start(load)


async def test_an_encoder_that_can_write_no_text_costs_its_own_load(tmp_path: Path) -> None:
    gguf = write_bert(tmp_path / "e.gguf", extra={"tokenizer.ggml.model": "llama"})
    with pytest.raises(
        LoadFailed, match="cannot embed a text: the vocabulary of this model has no"
    ):
        await RunnerProcess.start(load_spec(gguf, embedding=True))


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such bound elsewhere")
async def test_a_load_that_takes_far_more_than_planned_is_refused(tmp_path: Path) -> None:
    gguf = write_llama(tmp_path / "t.gguf", seed=1)
    plain = load_spec(gguf, cells=1 << 24)  # 8 GiB of cache
    with pytest.raises(LoadFailed, match="unable to create a context"):
        await RunnerProcess.start(msgspec.structs.replace(plain, host_bytes=50 << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="runners keep their rights elsewhere")
async def test_unconfined_runners_do_the_same_work(tmp_path: Path) -> None:
    gguf = write_llama(tmp_path / "t.gguf", seed=1)
    for confined in (True, False):
        async with started(load_spec(gguf, confined=confined)) as runner:
            assert "".join(each.text for each in await collect(runner, REQUESTS["greedy"]))
            assert set(filtered(runner.pid)) == {confined}


def filtered(pid: int) -> list[bool]:
    """Of each thread: whether its system calls are filtered."""
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return ["Seccomp:\t2" in each.read_text() for each in threads]
