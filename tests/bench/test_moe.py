"""Does a model stay the same when its FFN becomes one of eight equal experts?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bench.failure import BenchFailed
from bench.moe import EXPERTS, EXPERTS_USED, write_moe
from bench.quantisation import Q4_0, Q8_0, quantise
from engines import open_engine
from gguf import GGUFReader
from harness import load_spec, text_request
from numpy.typing import NDArray
from tiny import write_llama
from tiny_gemma import write_gemma4

pytestmark = pytest.mark.model

PROMPTS = ("The cat sat on", "12, 13, 14,", "def main(args):")
TOLERANCE = 1e-3  # of log-probabilities: experts are added up, and kernels differ


@dataclass(frozen=True, slots=True)
class Said:
    """What a model goes on with, and how probable it found that."""

    texts: dict[int, str]
    logprobs: NDArray[np.float64]


@pytest.fixture(params=[None, Q8_0, Q4_0], ids=["f32", "q8_0", "q4_0"])
def dense(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    plain = write_llama(tmp_path / "plain.gguf", seed=3)
    return quantise(plain, tmp_path / "dense.gguf", request.param) if request.param else plain


def say(gguf: Path) -> Said:
    with open_engine(load_spec(gguf)) as harness:
        texts = harness.run(
            *(text_request(i, prompt, num_logprobs=4) for i, prompt in enumerate(PROMPTS))
        )
        told = [lp for i in texts for lp in harness.logprobs(i)]
    return Said(texts, np.array([[top.logprob for top in lp.top] for lp in told]))


def test_equal_experts_say_what_the_dense_model_says(dense: Path, tmp_path: Path) -> None:
    plain, mixed = say(dense), say(write_moe(dense, tmp_path / "moe.gguf"))
    assert mixed.texts == plain.texts
    assert len(set(plain.texts.values())) == len(PROMPTS)
    assert np.abs(mixed.logprobs - plain.logprobs).max() < TOLERANCE


def test_every_expert_holds_the_bytes_of_the_ffn(dense: Path, tmp_path: Path) -> None:
    before = {tensor.name: tensor for tensor in GGUFReader(dense).tensors}
    made = GGUFReader(write_moe(dense, tmp_path / "moe.gguf"))
    after = {tensor.name: tensor for tensor in made.tensors}
    for part in ("gate", "up", "down"):
        ffn, experts = before[f"blk.1.ffn_{part}.weight"], after[f"blk.1.ffn_{part}_exps.weight"]
        assert experts.tensor_type == ffn.tensor_type
        assert experts.shape.tolist() == [*ffn.shape.tolist(), EXPERTS]
        assert all(np.array_equal(expert, ffn.data) for expert in experts.data)
    assert not any(name.endswith(("ffn_gate.weight", "ffn_down.weight")) for name in after)
    assert made.fields["llama.expert_used_count"].contents() == EXPERTS_USED


def test_the_same_weights_give_the_same_file(tmp_path: Path) -> None:
    dense = write_llama(tmp_path / "dense.gguf")
    files = [write_moe(dense, tmp_path / name).read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    gemma = write_gemma4(tmp_path / "gemma.gguf")
    with pytest.raises(BenchFailed, match="is a gemma4"):
        write_moe(gemma, tmp_path / "moe.gguf")
