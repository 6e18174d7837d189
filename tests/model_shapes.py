"""What do headers of other large models say? Made from published shapes, for dry loads.

Llama 3.1 8B (dense), Qwen3 30B-A3B and gpt-oss 20B (experts), and a Qwen 3.5 of 27 B (hybrid with
a NextN head). Tensors and keys are those of llama.cpp's src/models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_shapes import Q4_K_M, Shaped, make_header
from outrider.quant.gguf import Header, Value

LLAMA, QWEN3_MOE, GPT_OSS, QWEN35 = "Llama 3.1 8B", "Qwen3 30B-A3B", "gpt-oss 20B", "Qwen 3.5 27B"
NAMES: Final = (LLAMA, QWEN3_MOE, GPT_OSS, QWEN35)
VOCABULARIES: Final = {LLAMA: 128_256, QWEN3_MOE: 151_936, GPT_OSS: 201_088, QWEN35: 248_320}


def model_header(name: str, file_type: str = Q4_K_M) -> Header:
    """The header of one of NAMES."""
    makers = {LLAMA: _llama, QWEN3_MOE: _qwen3_moe, GPT_OSS: _gpt_oss, QWEN35: _qwen35}
    return makers[name](VOCABULARIES[name], file_type)


def _llama(vocab: int, file_type: str) -> Header:
    def tensors() -> Shaped:
        yield from _ends(4096, vocab)
        for layer in range(32):
            yield from _attention(f"blk.{layer}", 4096, 4096, 1024)
            yield f"blk.{layer}.ffn_norm.weight", (4096,)
            yield from _feed_forward(f"blk.{layer}", 4096, 14_336)

    keys = _keys(32, 4096, 14_336, 32, 8, 128)
    return make_header("llama", keys, tensors(), file_type)


def _qwen3_moe(vocab: int, file_type: str) -> Header:
    def tensors() -> Shaped:
        yield from _ends(2048, vocab)
        for layer in range(48):
            block = f"blk.{layer}"
            yield from _attention(block, 2048, 4096, 512)
            yield f"{block}.attn_q_norm.weight", (128,)
            yield f"{block}.attn_k_norm.weight", (128,)
            yield f"{block}.ffn_norm.weight", (2048,)
            yield f"{block}.ffn_gate_inp.weight", (2048, 128)
            yield from _experts(block, 2048, 768, 128)

    experts: dict[str, Value] = {
        "expert_count": 128,
        "expert_used_count": 8,
        "expert_feed_forward_length": 768,
    }
    keys = _keys(48, 2048, 6144, 32, 4, 128)
    return make_header("qwen3moe", {**keys, **experts}, tensors(), file_type)


def _gpt_oss(vocab: int, file_type: str) -> Header:
    def tensors() -> Shaped:
        yield from _ends(2880, vocab)
        for layer in range(24):
            block = f"blk.{layer}"
            yield from _attention(block, 2880, 4096, 512)
            for part, width in (("q", 4096), ("k", 512), ("v", 512), ("output", 2880)):
                yield f"{block}.attn_{part}.bias", (width,)
            yield f"{block}.attn_sinks.weight", (64,)
            yield f"{block}.post_attention_norm.weight", (2880,)
            yield f"{block}.ffn_gate_inp.weight", (2880, 32)
            yield f"{block}.ffn_gate_inp.bias", (32,)
            yield from _experts(block, 2880, 2880, 32)
            for part in ("gate", "up", "down"):
                yield f"{block}.ffn_{part}_exps.bias", (2880, 32)

    options: dict[str, Value] = {
        "expert_count": 32,
        "expert_used_count": 4,
        "expert_feed_forward_length": 2880,
        "attention.sliding_window": 128,
    }
    keys = _keys(24, 2880, 2880, 64, 8, 64)
    return make_header("gpt-oss", {**keys, **options}, tensors(), file_type)


def _qwen35(vocab: int, file_type: str) -> Header:
    layers, embd, ffn, inner, state, groups, heads = 64, 5120, 17_408, 6144, 128, 16, 48
    channels = inner + 2 * groups * state

    def tensors() -> Shaped:
        yield from _ends(embd, vocab)
        for layer in range(layers + 1):
            block = f"blk.{layer}"
            if layer % 4 == 3 or layer == layers:
                yield from _attention(block, embd, 6144, 1024, gated=True)
                yield f"{block}.attn_q_norm.weight", (256,)
                yield f"{block}.attn_k_norm.weight", (256,)
            else:
                yield f"{block}.attn_norm.weight", (embd,)
                yield f"{block}.attn_qkv.weight", (embd, channels)
                yield f"{block}.attn_gate.weight", (embd, inner)
                yield f"{block}.ssm_conv1d.weight", (4, channels)
                yield f"{block}.ssm_alpha.weight", (embd, heads)
                yield f"{block}.ssm_beta.weight", (embd, heads)
                yield f"{block}.ssm_dt.bias", (heads,)
                yield f"{block}.ssm_a", (heads,)
                yield f"{block}.ssm_norm.weight", (state,)
                yield f"{block}.ssm_out.weight", (inner, embd)
            yield f"{block}.post_attention_norm.weight", (embd,)
            yield from _feed_forward(block, embd, ffn)
        yield f"blk.{layers}.nextn.eh_proj.weight", (2 * embd, embd)
        for norm in ("enorm", "hnorm", "shared_head_norm"):
            yield f"blk.{layers}.nextn.{norm}.weight", (embd,)

    options: dict[str, Value] = {
        "nextn_predict_layers": 1,
        "full_attention_interval": 4,
        "rope.dimension_sections": [11, 11, 10, 0],
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
    }
    keys: dict[str, Value] = {
        **_keys(layers + 1, embd, ffn, 24, 4, 256),
        "rope.dimension_count": 64,
    }
    return make_header("qwen35", {**keys, **options}, tensors(), file_type)


def _keys(
    layers: int, embd: int, ffn: int, heads: int, heads_kv: int, head: int
) -> Mapping[str, Value]:
    return {
        "block_count": layers,
        "context_length": 131_072,
        "embedding_length": embd,
        "feed_forward_length": ffn,
        "attention.head_count": heads,
        "attention.head_count_kv": heads_kv,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": head,
        "rope.freq_base": 1_000_000.0,
    }


def _ends(embd: int, vocab: int) -> Shaped:
    yield "token_embd.weight", (embd, vocab)
    yield "output_norm.weight", (embd,)
    yield "output.weight", (embd, vocab)


def _attention(block: str, embd: int, queries: int, keys: int, *, gated: bool = False) -> Shaped:
    yield f"{block}.attn_norm.weight", (embd,)
    yield f"{block}.attn_q.weight", (embd, 2 * queries if gated else queries)
    yield f"{block}.attn_k.weight", (embd, keys)
    yield f"{block}.attn_v.weight", (embd, keys)
    yield f"{block}.attn_output.weight", (queries, embd)


def _feed_forward(block: str, embd: int, ffn: int) -> Shaped:
    yield f"{block}.ffn_gate.weight", (embd, ffn)
    yield f"{block}.ffn_up.weight", (embd, ffn)
    yield f"{block}.ffn_down.weight", (ffn, embd)


def _experts(block: str, embd: int, ffn: int, count: int) -> Shaped:
    yield f"{block}.ffn_gate_exps.weight", (embd, ffn, count)
    yield f"{block}.ffn_up_exps.weight", (embd, ffn, count)
    yield f"{block}.ffn_down_exps.weight", (ffn, embd, count)
