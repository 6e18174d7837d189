"""How tests get a mixture of experts with attention sinks: a tiny gpt-oss, made on the fly.

Tensors and keys are those of llama.cpp's src/models/openai-moe.cpp.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny import (
    ATTENTION_SHARPNESS,
    Draws,
    Tensors,
    constant,
    named,
    tokenizer,
    vocabulary,
    write_gguf,
)

EMBD, HEADS, HEADS_KV, HEAD = 64, 4, 2, 32
EXPERTS, EXPERTS_USED, EXPERT_FFN = 4, 2, 32


def write_gptoss(path: Path, *, seed: int = 0, layers: int = 2, window: int = 32) -> Path:
    """A random F32 gpt-oss whose even layers attend to the last `window` tokens."""
    tokens, types = vocabulary()
    shape = {
        "context_length": 2048,
        "embedding_length": EMBD,
        "block_count": layers,
        "feed_forward_length": EXPERT_FFN,
        "expert_feed_forward_length": EXPERT_FFN,
        "expert_count": EXPERTS,
        "expert_used_count": EXPERTS_USED,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS_KV,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.sliding_window": window,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 150000.0,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 2.0,
        "rope.scaling.original_context_length": 1024,
    }
    metadata = named("gpt-oss", shape) | tokenizer(tokens, types)
    metadata["tokenizer.ggml.pre"] = "gpt-4o"
    return write_gguf(path, metadata, _weights(Draws(seed), tokens, layers))


def _weights(draws: Draws, tokens: list[str], layers: int) -> Tensors:
    yield "token_embd.weight", draws.matrix(len(tokens), EMBD, EMBD**0.5)
    yield "output_norm.weight", constant(EMBD)
    yield "output.weight", draws.output(tokens, EMBD, 4.0)
    for layer in range(layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", constant(EMBD)
        yield f"{block}.post_attention_norm.weight", constant(EMBD)
        yield f"{block}.attn_sinks.weight", constant(HEADS, 0.5)
        for name, rows, columns, spread in (
            ("q", HEADS * HEAD, EMBD, ATTENTION_SHARPNESS),
            ("k", HEADS_KV * HEAD, EMBD, ATTENTION_SHARPNESS),
            ("v", HEADS_KV * HEAD, EMBD, 1.0),
            ("output", EMBD, HEADS * HEAD, 1.0),
        ):
            yield f"{block}.attn_{name}.weight", draws.matrix(rows, columns, spread)
            yield f"{block}.attn_{name}.bias", constant(rows, 0.1)
        yield from _experts(draws, block)


def _experts(draws: Draws, block: str) -> Tensors:
    yield f"{block}.ffn_gate_inp.weight", draws.matrix(EXPERTS, EMBD)
    yield f"{block}.ffn_gate_inp.bias", constant(EXPERTS, 0.0)
    for name, rows, columns in (
        ("gate", EXPERT_FFN, EMBD),
        ("up", EXPERT_FFN, EMBD),
        ("down", EMBD, EXPERT_FFN),
    ):
        stack = np.stack([draws.matrix(rows, columns) for _ in range(EXPERTS)])
        yield f"{block}.ffn_{name}_exps.weight", stack
        yield f"{block}.ffn_{name}_exps.bias", np.zeros((EXPERTS, rows), np.float32)
