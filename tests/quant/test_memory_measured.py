"""Are the computed sizes those that llama.cpp reports for tiny models?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness import load_spec
from outrider.daemon.runner.llama.loading import load_model
from outrider.quant.gguf import read_header
from outrider.quant.memory import ContextShape, ModelHeaders, estimate_memory
from tiny import write_llama
from tiny_gemma import write_gemma3, write_gemma4
from tiny_recurrent import write_mamba, write_qwen35

pytestmark = pytest.mark.model

MODELS: dict[str, Callable[[Path], Path]] = {
    "llama": write_llama,
    "gemma3": write_gemma3,
    "gemma4": write_gemma4,
    "gemma4 with shared layers": lambda path: write_gemma4(path, layers=6, shared_kv_layers=2),
    "qwen35": write_qwen35,
}
TOLERANCE = 0.08  # of the sum: the compute buffer without its mask is not computed
CELLS, SEQUENCES = 32768, 6  # 4 slots, and 2 sequences for released prefixes


def reported_bytes(gguf: Path, kv_type: str, batch: int) -> int:
    load = load_spec(gguf, kv_type=kv_type, cells=CELLS, batch=batch)
    loaded = load_model(load, lambda _fraction: None)
    loaded.context.close()
    loaded.model.close()
    return loaded.log.size_bytes


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [128, 512])
def test_the_sum_is_nearly_what_llama_cpp_reports(
    tmp_path: Path, name: str, batch: int, measurements: list[str]
) -> None:
    gguf = MODELS[name](tmp_path / "m.gguf")
    context = ContextShape(CELLS, SEQUENCES, batch, "f16")
    computed = estimate_memory(ModelHeaders(read_header(gguf)), context).total_bytes
    reported = reported_bytes(gguf, "f16", batch)
    measurements.append(
        f"{name}, batch {batch}: {computed / 2**20:.2f} MiB computed, "
        f"{reported / 2**20:.2f} MiB reported"
    )
    assert (1 - TOLERANCE) * reported <= computed <= reported


def test_a_model_without_attention_has_no_mask(tmp_path: Path) -> None:
    gguf = write_mamba(tmp_path / "m.gguf")
    context = ContextShape(CELLS, SEQUENCES, 128, "f16")
    computed = estimate_memory(ModelHeaders(read_header(gguf)), context).total_bytes
    assert 0.5 * reported_bytes(gguf, "f16", 128) <= computed <= reported_bytes(gguf, "f16", 128)
