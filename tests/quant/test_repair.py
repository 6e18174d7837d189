"""Which files are repaired, and how? Those that llama.cpp loads as they are stay untouched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import pytest
from outrider.quant.gguf import Array, Header, Tensor, Value
from outrider.quant.repair import TOKENS, Extent, PlacedTensor, Repair, arrays_for, plan_repair

pytestmark = pytest.mark.unit

VISION = ("v.blk.0.attn_q.weight", (4, 4))
LLAMA3: Mapping[str, Value] = {
    "tokenizer.ggml.model": "gpt2",
    TOKENS: ["<|start_header_id|>"] * 128_256,
    "tokenizer.ggml.eos_token_id": 128_001,
}


def header_of(
    architecture: str,
    values: Mapping[str, Value] | None = None,
    tensors: Sequence[tuple[str, tuple[int, ...]]] = (),
) -> Header:
    """F32 tensors one after the other from byte 1000 on."""
    found, offset = [], 1000
    for name, shape in tensors:
        found.append(Tensor(name, "F32", shape, offset, 4 * prod(shape)))
        offset += found[-1].size_bytes
    keys = {"general.architecture": architecture, **(values or {})}
    return Header(Path("x.gguf"), 3, offset, keys, tuple(found))


def planned(
    architecture: str,
    values: Mapping[str, Value] | None = None,
    tensors: Sequence[tuple[str, tuple[int, ...]]] = (),
) -> Repair:
    repair = plan_repair(header_of(architecture, values, tensors))
    assert repair
    return repair


def placed(repair: Repair) -> dict[str, PlacedTensor]:
    assert repair.tensors is not None
    return {tensor.name: tensor for tensor in repair.tensors}


SOUND: Mapping[str, tuple[Mapping[str, Value], tuple[tuple[str, tuple[int, ...]], ...]]] = {
    "gemma4": ({"tokenizer.ggml.model": "gemma4"}, (("token_embd.weight", (4, 8)),)),
    "gemma3": ({"gemma3.attention.layer_norm_rms_epsilon": 1e-6}, (("token_embd.weight", (4, 8)),)),
    "gemma3n": ({}, (("token_embd.weight", (4, 8)), ("per_layer_token_embd.weight", (6, 8)))),
    "gpt-oss": ({}, (("blk.0.attn_sinks.weight", (4,)),)),
    "qwen35": ({"qwen35.attention.head_count_kv": [0, 2]}, (("blk.0.ssm_dt.bias", (4,)),)),
    "qwen3next": ({}, (("blk.0.ssm_dt.bias", (4,)),)),
    "qwen3vl": ({"qwen3vl.rope.dimension_sections": [2, 1, 1]}, ()),
    "mistral3": ({}, (("token_embd.weight", (4, 8)),)),
    "lfm2": ({}, (("token_embd_norm.weight", (4,)),)),
    "llama": ({**LLAMA3, "tokenizer.ggml.pre": "llama-bpe"}, ()),
    "martian": ({}, (VISION,)),
}


@pytest.mark.parametrize("architecture", SOUND)
def test_a_sound_file_needs_nothing(architecture: str) -> None:
    values, tensors = SOUND[architecture]
    assert plan_repair(header_of(architecture, values, tensors)) is None


def test_a_single_value_is_an_override() -> None:
    repair = planned("gemma4", {"tokenizer.ggml.model": "llama"})
    assert repair.overrides == {"tokenizer.ggml.model": "gemma4"}


def test_senses_are_left_out() -> None:
    text = ("token_embd.weight", (4, 8))
    for name in ("v.x", "a.x", "mm.x", "model.vision_tower.x"):
        repair = planned("gemma4", {"tokenizer.ggml.model": "gemma4"}, [(name, (4,)), text])
        assert list(placed(repair)) == ["token_embd.weight"]
        assert repair.overrides is None


def test_experts_are_interleaved() -> None:
    shape = (4, 2, 3)  # 32 bytes for each of 3 experts
    tensors = [(f"blk.0.ffn_{side}_exps.weight", shape) for side in ("gate", "up")]
    (joined,) = placed(planned("gemma4", {}, [*tensors, VISION])).values()
    assert (joined.name, joined.shape) == ("blk.0.ffn_gate_up_exps.weight", (4, 4, 3))
    offsets = [1000, 1096, 1032, 1128, 1064, 1160]
    assert joined.extents == tuple(Extent(offset, 32) for offset in offsets)


def test_experts_with_scales_stay_apart() -> None:
    tensors = [(f"blk.0.ffn_{side}_exps.weight", (4, 2, 3)) for side in ("gate", "up")]
    names = placed(planned("gemma4", {}, [*tensors, ("blk.0.ffn_up_exps.scale", (3,)), VISION]))
    assert "blk.0.ffn_gate_exps.weight" in names


def test_the_scale_of_the_router_s_experts() -> None:
    repair = planned("gemma4", {}, [("blk.3.ffn_gate_inp.per_expert_scale", (3,)), VISION])
    assert list(placed(repair)) == ["blk.3.ffn_down_exps.scale"]


def test_gemma3_gets_what_it_leaves_out() -> None:
    values: dict[str, Value] = {
        "gemma3.context_length": 131_072,
        "gemma3.rope.global.freq_base": 2e6,
        TOKENS: Array("string", 9),
        "tokenizer.ggml.scores": Array("float32", 9),
    }
    repair = planned("gemma3", values, [("token_embd.weight", (4, 8)), VISION])
    assert repair.keys == {"gemma3.rope.global.freq_base": "gemma3.rope.freq_base"}
    assert repair.values == {
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.rope.freq_base_swa": 1e4,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    assert repair.lengths == {TOKENS: 8, "tokenizer.ggml.scores": 8}


def test_a_short_gemma3_does_not_scale_its_positions() -> None:
    repair = planned("gemma3", {"gemma3.context_length": 32_768})
    assert "gemma3.rope.scaling.type" not in repair.values
    assert repair.values["gemma3.rope.freq_base"] == 1e6


def test_embeddinggemma() -> None:
    tensors = [("dense.0.weight", (4, 12)), ("dense.1.weight", (12, 4)), ("norm.weight", (4,))]
    repair = planned("gemma3", {"gemma3.block_count": 1}, tensors)
    assert list(placed(repair)) == ["dense_2.weight", "dense_3.weight", "output_norm.weight"]
    assert repair.values["general.architecture"] == "gemma-embedding"
    assert repair.keys == {"gemma3.block_count": "gemma-embedding.block_count"}
    sizes = [
        repair.values[f"gemma-embedding.dense_{n}_feat_{e}"] for n in "23" for e in ("in", "out")
    ]
    assert sizes == [4, 12, 12, 4]


def test_gemma3n_is_cut_to_the_vocabulary_of_its_layers() -> None:
    tensors = [("token_embd.weight", (4, 10)), ("per_layer_token_embd.weight", (6, 8))]
    repair = planned("gemma3n", {TOKENS: Array("string", 10)}, tensors)
    assert repair.lengths == {TOKENS: 8}
    embedding = placed(repair)["token_embd.weight"]
    assert (embedding.shape, embedding.extents) == ((4, 8), (Extent(1000, 128),))


def test_gptoss() -> None:
    values: dict[str, Value] = {"gptoss.block_count": 1, "gptoss.rope.scaling.factor": 32.0}
    names = ("attn_out.weight", "attn_out.bias", "attn_sinks", "ffn_norm.weight")
    experts = ("blk.0.ffn_down_exps.weight", (32, 64, 4))
    repair = planned("gptoss", values, [*((f"blk.0.{name}", (4,)) for name in names), experts])
    parts = ("attn_output.weight", "attn_output.bias", "attn_sinks.weight")
    assert placed(repair).keys() == {
        *(f"blk.0.{part}" for part in parts),
        *("blk.0.post_attention_norm.weight", "blk.0.ffn_down_exps.weight"),
    }
    assert repair.values["gpt-oss.expert_feed_forward_length"] == 32
    assert repair.values["tokenizer.ggml.pre"] == "gpt-4o"
    assert repair.keys["gptoss.rope.scaling.factor"] == "gpt-oss.rope.scaling.factor"


@pytest.mark.parametrize("architecture", ["qwen35", "qwen35moe"])
def test_qwen35(architecture: str) -> None:
    values: dict[str, Value] = {
        f"{architecture}.attention.head_count_kv": [0, 2, 0, 4],
        f"{architecture}.rope.dimension_sections": [11, 11, 10],
        f"{architecture}.vision.block_count": 3,
    }
    repair = planned(architecture, values, [("blk.0.ssm_dt", (4,)), ("mtp.fc.weight", (4,))])
    assert list(placed(repair)) == ["blk.0.ssm_dt.bias"]
    assert repair.values == {
        f"{architecture}.attention.head_count_kv": 4,
        f"{architecture}.rope.dimension_sections": [11, 11, 10, 0],
    }


def test_qwen3next() -> None:
    values: dict[str, Value] = {"qwen3next.attention.head_count_kv": [0, 2]}
    repair = planned("qwen3next", values, [("blk.0.ssm_dt", (4,))])
    assert list(placed(repair)) == ["blk.0.ssm_dt.bias"]
    assert repair.values == {"qwen3next.attention.head_count_kv": 2}


@pytest.mark.parametrize(
    ("old", "new"), [("qwen25vl", "qwen2vl"), ("deepseekocr", "deepseek2-ocr")]
)
def test_private_names_of_architectures(old: str, new: str) -> None:
    values: dict[str, Value] = {f"{old}.rope.mrope_section": [16, 24, 24]}
    repair = planned(old, values, [VISION, ("token_embd.weight", (4, 8))])
    assert repair.values["general.architecture"] == new
    assert repair.values[f"{new}.rope.dimension_sections"] == [16, 24, 24, 0]
    assert list(placed(repair)) == ["token_embd.weight"]


def test_lfm2() -> None:
    tensors = [("output_norm.weight", (4,)), ("blk.0.ffn_gate.weight", (4, 12))]
    repair = planned("lfm2", {"lfm2.feed_forward_length": 99}, tensors)
    assert placed(repair).keys() == {"token_embd_norm.weight", "blk.0.ffn_gate.weight"}
    assert repair.values == {"lfm2.feed_forward_length": 12, "tokenizer.ggml.pre": "lfm2"}


@pytest.mark.parametrize("pre", [None, "default"])
def test_a_llama_3_that_does_not_say_how_it_splits(pre: str | None) -> None:
    values = {**LLAMA3, **({"tokenizer.ggml.pre": pre} if pre else {})}
    unread = {**values, TOKENS: Array("string", 128_256)}
    assert TOKENS in arrays_for(header_of("llama", unread))
    assert plan_repair(header_of("llama", unread)) is None
    assert planned("llama", values).overrides == {
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.eos_token_id": 128_009,
        "tokenizer.ggml.eot_token_id": 128_009,
    }


def test_other_vocabularies_of_that_size_are_no_llama_3() -> None:
    assert plan_repair(header_of("llama", {**LLAMA3, TOKENS: ["a"] * 128_256})) is None
    assert TOKENS not in arrays_for(header_of("llama", {**LLAMA3, TOKENS: ["a"] * 32_000}))
