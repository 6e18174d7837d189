"""Is an adapter accepted for its own weights only, and what is said of the others?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from outrider.quant.adapter import find_misfit
from outrider.quant.gguf import read_header
from tiny import Tensors, write_gguf, write_llama
from tiny_gemma import write_gemma4
from tiny_lora import write_lora

pytestmark = pytest.mark.unit

KEYS = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 8.0,
}
ALORA = {"adapter.alora.invocation_tokens": [1, 2]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "base.gguf", embd=32)


def pair(name: str, a: tuple[int, int], b: tuple[int, int]) -> Tensors:
    """The two matrices of a tensor, given as rows by columns."""
    yield f"{name}.lora_a", np.ones(a, np.float32)
    yield f"{name}.lora_b", np.ones(b, np.float32)


def test_an_adapter_for_these_weights_fits(base: Path, tmp_path: Path) -> None:
    every = ("attn_q.weight", "ffn_up.weight", "output.weight")
    lora = write_lora(tmp_path / "lora.gguf", base, changed=every)
    assert find_misfit(read_header(base), read_header(lora)) == ""


def test_the_embedding_has_its_pair_the_other_way_round(base: Path, tmp_path: Path) -> None:
    name = "token_embd.weight"
    columns, rows = next(t.shape for t in read_header(base).tensors if t.name == name)
    for a, b, misfit in (((rows, 4), (columns, 4), False), ((4, columns), (rows, 4), True)):
        lora = write_gguf(tmp_path / "lora.gguf", KEYS, pair(name, a, b))
        assert bool(find_misfit(read_header(base), read_header(lora))) is misfit


@pytest.mark.parametrize(
    ("tensors", "misfit"),
    [
        ([], "it has no tensors"),
        (
            pair("blk.9.attn_q.weight", (4, 32), (32, 4)),
            "it changes blk.9.attn_q.weight, which the model does not have",
        ),
        (
            pair("blk.0.attn_q.weight", (4, 64), (64, 4)),
            "it expects blk.0.attn_q.weight of 64 x 64, and the model's is 32 x 32",
        ),
        (
            pair("blk.0.attn_q.weight", (4, 32), (32, 8)),
            "its pair for blk.0.attn_q.weight has the ranks 4 and 8",
        ),
        (
            list(pair("blk.0.attn_q.weight", (4, 32), (32, 4)))[:1],
            "one half of its pair for blk.0.attn_q.weight is missing",
        ),
        (
            [("blk.0.attn_q.weight", np.ones((32, 32), np.float32))],
            "blk.0.attn_q.weight is no part of a LoRA",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    base: Path, tmp_path: Path, tensors: Tensors, misfit: str
) -> None:
    lora = write_gguf(tmp_path / "lora.gguf", KEYS, list(tensors))
    assert find_misfit(read_header(base), read_header(lora)) == misfit


def test_kinds_that_are_not_supported(base: Path, tmp_path: Path) -> None:
    alora = write_lora(tmp_path / "alora.gguf", base, extra=ALORA)
    assert "aLoRA" in find_misfit(read_header(base), read_header(alora))
    other = write_lora(tmp_path / "other.gguf", base, extra={"adapter.type": "dora"})
    assert find_misfit(read_header(base), read_header(other)).startswith("its type is dora")
    gemma = write_gemma4(tmp_path / "gemma.gguf")
    lora = write_lora(tmp_path / "lora.gguf", base)
    misfit = find_misfit(read_header(gemma), read_header(lora))
    assert misfit == "it was made for llama, and the model is gemma4"


def test_weights_of_another_engine_count_as_they_are_repaired(tmp_path: Path) -> None:
    """Ollama calls this architecture gptoss, and its matrices of attention attn_out."""
    weights = [("blk.0.attn_out.weight", np.ones((32, 32), np.float32))]
    base = write_gguf(tmp_path / "base.gguf", {"general.architecture": "gptoss"}, weights)
    keys = KEYS | {"general.architecture": "gpt-oss"}
    for name, misfit in (("attn_output", ""), ("attn_out", "which the model does not have")):
        tensors = pair(f"blk.0.{name}.weight", (4, 32), (32, 4))
        lora = write_gguf(tmp_path / "lora.gguf", keys, tensors)
        found = find_misfit(read_header(base), read_header(lora))
        assert found.endswith(misfit)
        assert bool(found) == bool(misfit)
