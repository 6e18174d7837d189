"""What a runner says about its memory when it is ready: sizes by device and part."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness import load_spec
from msgspec.structs import replace
from outrider.daemon.protocol import DeviceBytes, Load, Ready
from outrider.daemon.runners.process import RunnerProcess
from outrider.quant.gguf import read_header
from tiny import write_llama
from tiny_bert import write_bert
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_lora import write_lora

pytestmark = pytest.mark.model

MIB = 1 << 20
ROUNDING = 1 << 14  # bytes by which sizes of llama.cpp's log, in MiB with two decimals, may err


def ready(load: Load) -> Ready:
    """What a runner of its own says about this load."""

    async def run() -> Ready:
        process = await RunnerProcess.start(replace(load, gpu_layers=0))
        try:
            return process.ready
        finally:
            await process.stop()

    return asyncio.run(run())


def host(answer: Ready) -> DeviceBytes:
    """The only device, whose parts are all that there is."""
    (device,) = answer.devices
    total = sum(getattr(device, name) for name in device.__struct_fields__ if "bytes" in name)
    assert (device.device, device.is_gpu) == ("CPU", False)
    assert (answer.size_bytes, answer.size_vram_bytes) == (total, 0)
    return device


def test_weights_are_those_of_the_file_and_the_cache_is_that_of_its_cells(tmp_path: Path) -> None:
    gguf = write_llama(tmp_path / "m.gguf")
    device = host(ready(load_spec(gguf)))
    tensors = sum(tensor.size_bytes for tensor in read_header(gguf).tensors)
    assert abs(device.weights_bytes - tensors) < ROUNDING
    assert device.cache_bytes == 2048 * 2 * (32 + 32) * 4  # cells, layers, keys and values, f32
    assert device.compute_bytes > MIB
    assert device.adapter_bytes == device.drafter_bytes == 0


def test_an_adapter_is_a_part_of_its_own(tmp_path: Path) -> None:
    base = write_llama(tmp_path / "m.gguf")
    lora = write_lora(tmp_path / "lora.gguf", base)
    plain, adapted = (
        host(ready(replace(load_spec(base), adapters=adapters))) for adapters in ((), (str(lora),))
    )
    tensors = sum(tensor.size_bytes for tensor in read_header(lora).tensors)
    assert abs(adapted.adapter_bytes - tensors) < ROUNDING
    assert adapted.weights_bytes == plain.weights_bytes
    assert plain.compute_bytes <= adapted.compute_bytes < plain.compute_bytes * 1.2


def test_a_drafter_is_a_part_of_its_own(tmp_path: Path) -> None:
    target = write_gemma4(tmp_path / "m.gguf")
    drafter = write_gemma4_assistant(tmp_path / "d.gguf", target)
    plain = host(ready(load_spec(target)))
    drafted = host(ready(replace(load_spec(target, draft=str(drafter)), speculation=None)))
    assert drafted.drafter_bytes > sum(t.size_bytes for t in read_header(drafter).tensors)
    assert replace(drafted, drafter_bytes=0, compute_bytes=plain.compute_bytes) == plain


def test_a_drafter_that_is_refused_takes_nothing(tmp_path: Path) -> None:
    target, other = write_llama(tmp_path / "m.gguf"), write_llama(tmp_path / "o.gguf", vocab=900)
    answer = ready(replace(load_spec(target, draft=str(other)), speculation=None))
    assert answer.refusal
    assert host(answer).drafter_bytes == 0


def test_an_encoder_has_no_cache(tmp_path: Path) -> None:
    device = host(ready(load_spec(write_bert(tmp_path / "e.gguf"), embedding=True)))
    assert device.cache_bytes == 0
    assert min(device.weights_bytes, device.compute_bytes) > 0
