"""Does llama.cpp load files that were written for Ollama's own engine, and compute the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from foreign import Flaws, Weights, split_experts, write_foreign
from harness import load_spec
from native import Native
from numpy.typing import NDArray
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.context import EmbeddingContext
from outrider.daemon.runner.llama.loading import load_context, load_model
from outrider.daemon.runner.llama.weights import make_overrides
from tiny import vocabulary, write_llama
from tiny_gemma import write_gemma3, write_gemma4
from tiny_gptoss import write_gptoss
from tiny_recurrent import write_qwen35

pytestmark = pytest.mark.model

TOKENS = [40, 41, 42, 50, 60, 70, 33, 34]
VISION = ("v.blk.0.attn_q.weight", "mm.input_projection.weight")
GEMMA4 = {"tokenizer.ggml.model": "gemma4"}

LONGER = {"tokens": [*vocabulary()[0], "<image>"], "token_type": [*vocabulary()[1], 3]}


def write_qwen2vl(path: Path) -> Path:
    """A llama whose positions have three axes, with biases of queries, keys and values."""

    def add_biases(weights: Weights) -> Weights:
        rows = {n: len(w) for n, w in weights.items() if n.endswith(("_q.weight", "_k.weight"))}
        rows |= {n: len(w) for n, w in weights.items() if n.endswith("_v.weight")}
        biases = {n.replace("weight", "bias"): np.full(r, 0.1, np.float32) for n, r in rows.items()}
        return weights | biases

    sound = write_llama(path.with_suffix(".llama"))
    sections = {"llama.rope.dimension_sections": [4, 2, 2, 0]}
    flaws = Flaws(sections, architecture="qwen2vl", change=add_biases)
    return write_foreign(path, sound, flaws)


def write_embedding_gemma(path: Path) -> Path:
    """A Gemma 3 with two dense layers behind its pooling."""
    draws = np.random.default_rng(5)
    shapes = {"dense_2.weight": (96, 64), "dense_3.weight": (64, 96)}
    dense = {n: draws.normal(0, 0.1, shape).astype(np.float32) for n, shape in shapes.items()}
    keys = {f"gemma3.dense_2_feat_{end}": size for end, size in (("in", 64), ("out", 96))}
    keys |= {f"gemma3.dense_3_feat_{end}": size for end, size in (("in", 96), ("out", 64))}
    flaws = Flaws(
        keys | {"gemma3.pooling_type": 1},
        architecture="gemma-embedding",
        change=lambda weights: {n: w for n, w in weights.items() if n != "output.weight"} | dense,
    )
    return write_foreign(path, write_gemma3(path.with_suffix(".gemma3")), flaws)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A sound file, and what Ollama's library has instead."""

    write: Callable[[Path], Path]
    flaws: Flaws
    is_refused: bool = True  # by llama.cpp, without a repair


FILES = {
    "gemma4 with vision and audio": Foreign(
        partial(write_gemma4, extra=GEMMA4),
        Flaws({"tokenizer.ggml.model": "llama"}, beside=(*VISION, "a.conv1.weight")),
    ),
    "gemma4 whose tokenizer is named otherwise": Foreign(
        partial(write_gemma4, extra=GEMMA4),
        Flaws({"tokenizer.ggml.model": "llama"}),
        is_refused=False,  # but it splits a text otherwise
    ),
    "gemma4 with experts": Foreign(
        partial(write_gemma4, extra=GEMMA4, experts=4),
        Flaws(beside=VISION, change=split_experts),
    ),
    "gemma3": Foreign(
        write_gemma3,
        Flaws(
            {
                "gemma3.rope.global.freq_base": 1e6,
                "gemma3.rope.local.freq_base": 1e4,
                **{f"tokenizer.ggml.{key}": value for key, value in LONGER.items()},
            },
            without=("gemma3.rope.freq_base", "gemma3.attention.layer_norm_rms"),
            beside=VISION,
        ),
    ),
    "qwen25vl": Foreign(
        write_qwen2vl,
        Flaws(
            {"qwen2vl.rope.mrope_section": [4, 2, 2]},
            without=("qwen2vl.rope.dimension_sections",),
            architecture="qwen25vl",
            beside=VISION,
        ),
    ),
    "qwen35": Foreign(
        write_qwen35,
        Flaws(
            {
                "qwen35.attention.head_count_kv": [0, 2, 0, 2],
                "qwen35.rope.dimension_sections": [2, 1, 1],
            },
            tensors={"ssm_dt.bias": "ssm_dt"},
            beside=(*VISION, "mtp.fc.weight"),
        ),
    ),
    "gptoss": Foreign(
        write_gptoss,
        Flaws(
            {"tokenizer.ggml.pre": "default"},
            without=("gpt-oss.expert_feed", "gpt-oss.rope.scaling.type"),
            architecture="gptoss",
            tensors={
                "attn_output.weight": "attn_out.weight",
                "attn_output.bias": "attn_out.bias",
                "attn_sinks.weight": "attn_sinks",
                "post_attention_norm.weight": "ffn_norm.weight",
            },
        ),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_foreign_file_computes_what_the_sound_one_does(name: str, tmp_path: Path) -> None:
    file = FILES[name]
    sound = file.write(tmp_path / "sound.gguf")
    foreign = write_foreign(tmp_path / "foreign.gguf", sound, file.flaws)
    content = hashlib.sha256(foreign.read_bytes()).digest()
    assert loads_plainly(foreign) is not file.is_refused
    (one, first), (other, second) = read_and_evaluate(foreign), read_and_evaluate(sound)
    assert one == other
    assert np.array_equal(first, second)
    assert np.ptp(first) > 1  # not that both are nothing
    assert hashlib.sha256(foreign.read_bytes()).digest() == content


def test_embeddinggemma_makes_the_same_vectors(tmp_path: Path) -> None:
    sound = write_embedding_gemma(tmp_path / "sound.gguf")
    flaws = Flaws(
        without=("gemma-embedding.dense",),
        architecture="gemma3",
        tensors={
            "dense_2.weight": "dense.0.weight",
            "dense_3.weight": "dense.1.weight",
            "output_norm.weight": "norm.weight",
        },
    )
    foreign = write_foreign(tmp_path / "foreign.gguf", sound, flaws)
    assert not loads_plainly(foreign)
    one, other = vector_of(foreign), vector_of(sound)
    assert np.array_equal(one, other)
    assert np.linalg.norm(one) > 1e-3


def test_overrides_of_every_type() -> None:
    values = {"a": "text", "b": 7, "c": 0.5, "d": True}
    overrides = make_overrides(values)
    assert [o.key for o in overrides] == [b"a", b"b", b"c", b"d", b""]
    text, integer, number, flag, _ = (o.value for o in overrides)
    assert (text.val_str, integer.val_i64, number.val_f64, flag.val_bool) == (b"text", 7, 0.5, True)


def loads_plainly(path: Path) -> bool:
    with Native() as native:
        try:
            native.model(path)
        except AssertionError:
            return False
    return True


def read_and_evaluate(path: Path) -> tuple[list[int], NDArray[np.float32]]:
    """The tokens of a text, and what comes of evaluating others."""
    spec = load_spec(path, threads=1)
    loaded = load_model(spec, lambda _fraction: None)
    batch = Batch(len(TOKENS))
    row = batch.add(0, 0, TOKENS, outputs=1)
    try:
        tokens = loaded.model.tokenize("<|im_start|>the hen<|im_end|>\n", add_bos=True)
        assert loaded.context.decode(batch) == 0
        return tokens, loaded.context.logits(row).copy()
    finally:
        loaded.context.close()
        loaded.model.close()


def vector_of(path: Path) -> NDArray[np.float32]:
    loaded = load_context(EmbeddingContext, load_spec(path, threads=1), lambda _fraction: None)
    batch = Batch(len(TOKENS))
    batch.add(0, 0, TOKENS, outputs=len(TOKENS))
    try:
        assert loaded.context.decode(batch) == 0
        return loaded.context.vector(0).copy()
    finally:
        loaded.context.close()
        loaded.model.close()
