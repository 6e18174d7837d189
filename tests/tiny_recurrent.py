"""How tests get models with a recurrent state: a tiny hybrid and a tiny Mamba, on the fly.

Tensors and keys are those of llama.cpp's src/models/qwen35.cpp and mamba.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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

EMBD, FFN, CONV = 64, 128, 4
HEADS, HEADS_KV, HEAD = 4, 2, 32  # a width that a q8_0 cache takes
ROPE_SECTIONS = [2, 1, 1, 0]  # half of a quarter of HEAD, as M-RoPE counts
KEY_HEADS, VALUE_HEADS, STATE = 2, 4, 16  # of the gated delta net
KEY_WIDTH, VALUE_WIDTH = KEY_HEADS * STATE, VALUE_HEADS * STATE
DECAYS = (-0.005, -0.02, -0.1, -0.4)  # per token and value head: some remember for long
INNER, TIME_RANK = 2 * EMBD, 4  # of Mamba; llama.cpp only takes a factor of 2
EXPERT_FFN, EXPERTS_USED = 64, 2
HEADED_BRANCH, HIDDEN_SHARE = 0.2, 0.1
SLOW = -3.0  # a bias of Mamba's time step: a state of hundreds of tokens


@dataclass(frozen=True, slots=True)
class Block:
    """What Qwen 3.5's layers differ in."""

    branch: float  # how much one adds
    experts: int  # 0: a dense feed-forward


def write_qwen35(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 4,
    context: int = 2048,
    scale: float = 4.0,
    experts: int = 0,
    with_head: bool = False,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A random F32 Qwen 3.5: even layers are gated delta nets, odd layers attend to everything.

    `scale` and `extra` as in `write_llama`. Its state can be rolled back (`n_rs_seq`). With a head
    that drafts further tokens, what a layer adds is small, so that the head, which knows little
    more than the newest token, is often right.
    """
    tokens, types = vocabulary()
    shape = _qwen35_shape(layers + with_head, context, experts)
    if with_head:
        shape["nextn_predict_layers"] = 1
    metadata = named("qwen35moe" if experts else "qwen35", shape) | tokenizer(tokens, types)
    block = Block(HEADED_BRANCH if with_head else 1.0, experts)
    tensors = list(_qwen35(Draws(seed), tokens, layers, scale, block))
    if with_head:
        tensors += _head(Draws(seed + 1), f"blk.{layers}", block)
    return write_gguf(path, metadata | dict(extra or {}), iter(tensors))


def write_mamba(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 3,
    context: int = 2048,
    scale: float = 4.0,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A random F32 Mamba, purely recurrent; `scale` and `extra` as in `write_llama`."""
    tokens, types = vocabulary()
    shape = {
        "context_length": context,
        "embedding_length": EMBD,
        "block_count": layers,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "ssm.conv_kernel": CONV,
        "ssm.inner_size": INNER,
        "ssm.state_size": STATE,
        "ssm.time_step_rank": TIME_RANK,
    }
    metadata = named("mamba", shape) | tokenizer(tokens, types) | dict(extra or {})
    return write_gguf(path, metadata, _mamba(Draws(seed), tokens, layers, scale))


def _qwen35_shape(layers: int, context: int, experts: int) -> dict[str, object]:
    of_experts = {
        "expert_count": experts,
        "expert_used_count": EXPERTS_USED,
        "expert_feed_forward_length": EXPERT_FFN,
        "expert_shared_feed_forward_length": EXPERT_FFN,
    }
    return (of_experts if experts else {}) | {
        "context_length": context,
        "embedding_length": EMBD,
        "block_count": layers,
        "feed_forward_length": FFN,
        "full_attention_interval": 2,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS_KV,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": 2 * sum(ROPE_SECTIONS),
        "rope.dimension_sections": ROPE_SECTIONS,
        "rope.freq_base": 10000.0,
        "ssm.conv_kernel": CONV,
        "ssm.inner_size": VALUE_WIDTH,
        "ssm.state_size": STATE,
        "ssm.time_step_rank": VALUE_HEADS,
        "ssm.group_count": KEY_HEADS,
    }


def _ends(draws: Draws, tokens: list[str], scale: float) -> Tensors:
    yield "token_embd.weight", draws.matrix(len(tokens), EMBD, 0.5 * EMBD**0.5)
    yield "output_norm.weight", constant(EMBD)
    yield "output.weight", draws.output(tokens, EMBD, scale)


def _qwen35(draws: Draws, tokens: list[str], layers: int, scale: float, block: Block) -> Tensors:
    yield from _ends(draws, tokens, scale)
    for layer in range(layers):
        name = f"blk.{layer}"
        yield f"{name}.attn_norm.weight", constant(EMBD)
        yield from (_attention if layer % 2 else _delta_net)(draws, name, block.branch)
        yield f"{name}.post_attention_norm.weight", constant(EMBD)  # the norm before the FFN
        yield from _feed_forward(draws, name, block)


def _head(draws: Draws, name: str, block: Block) -> Tensors:
    """Its logits are those of the target's output layer for the token's embedding and, with less
    weight, the hidden row from which the token was sampled."""
    yield f"{name}.attn_norm.weight", constant(EMBD)
    yield from _attention(draws, name, block.branch)
    yield f"{name}.post_attention_norm.weight", constant(EMBD)
    yield from _feed_forward(draws, name, block)
    half = np.eye(EMBD, dtype=np.float32)
    yield f"{name}.nextn.eh_proj.weight", np.concatenate([half, HIDDEN_SHARE * half], axis=1)
    yield f"{name}.nextn.enorm.weight", constant(EMBD)
    yield f"{name}.nextn.hnorm.weight", constant(EMBD)
    yield f"{name}.nextn.shared_head_norm.weight", constant(EMBD)


def _feed_forward(draws: Draws, name: str, block: Block) -> Tensors:
    if block.experts:
        yield from _experts(draws, name, block)
        return
    yield f"{name}.ffn_gate.weight", draws.matrix(FFN, EMBD)
    yield f"{name}.ffn_up.weight", draws.matrix(FFN, EMBD)
    yield f"{name}.ffn_down.weight", draws.matrix(EMBD, FFN, block.branch)


def _experts(draws: Draws, name: str, block: Block) -> Tensors:
    """Those that are chosen, and one that always adds to them."""
    num, branch = block.experts, block.branch
    each = range(num)
    yield f"{name}.ffn_gate_inp.weight", draws.matrix(num, EMBD)
    for part in ("gate", "up"):
        stack = np.stack([draws.matrix(EXPERT_FFN, EMBD) for _ in each])
        yield f"{name}.ffn_{part}_exps.weight", stack
        yield f"{name}.ffn_{part}_shexp.weight", draws.matrix(EXPERT_FFN, EMBD)
    stack = np.stack([draws.matrix(EMBD, EXPERT_FFN, branch) for _ in each])
    yield f"{name}.ffn_down_exps.weight", stack
    yield f"{name}.ffn_down_shexp.weight", draws.matrix(EMBD, EXPERT_FFN, branch)
    yield f"{name}.ffn_gate_inp_shexp.weight", draws.matrix(1, EMBD)[0]


def _attention(draws: Draws, block: str, branch: float) -> Tensors:
    """Each head's query is followed by its gate."""
    yield f"{block}.attn_q.weight", draws.matrix(2 * HEADS * HEAD, EMBD)
    yield f"{block}.attn_k.weight", draws.matrix(HEADS_KV * HEAD, EMBD)
    yield f"{block}.attn_v.weight", draws.matrix(HEADS_KV * HEAD, EMBD)
    yield f"{block}.attn_q_norm.weight", constant(HEAD, ATTENTION_SHARPNESS)
    yield f"{block}.attn_k_norm.weight", constant(HEAD, ATTENTION_SHARPNESS)
    yield f"{block}.attn_output.weight", draws.matrix(EMBD, HEADS * HEAD, 2.0 * branch)


def _delta_net(draws: Draws, block: str, branch: float) -> Tensors:
    width = 2 * KEY_WIDTH + VALUE_WIDTH
    yield f"{block}.attn_qkv.weight", draws.matrix(width, EMBD)
    yield f"{block}.attn_gate.weight", draws.matrix(VALUE_WIDTH, EMBD)
    yield f"{block}.ssm_conv1d.weight", draws.matrix(width, CONV)
    yield f"{block}.ssm_alpha.weight", draws.matrix(VALUE_HEADS, EMBD)
    yield f"{block}.ssm_beta.weight", draws.matrix(VALUE_HEADS, EMBD)
    yield f"{block}.ssm_dt.bias", constant(VALUE_HEADS, 0.0)
    yield f"{block}.ssm_a", np.array(DECAYS, np.float32)
    yield f"{block}.ssm_norm.weight", constant(STATE)
    yield f"{block}.ssm_out.weight", draws.matrix(EMBD, VALUE_WIDTH, 2.0 * branch)


def _mamba(draws: Draws, tokens: list[str], layers: int, scale: float) -> Tensors:
    decays = -np.tile(np.linspace(0.1, 1.6, STATE, dtype=np.float32), (INNER, 1))
    yield from _ends(draws, tokens, scale)
    for layer in range(layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", constant(EMBD)
        yield f"{block}.ssm_in.weight", draws.matrix(2 * INNER, EMBD)
        yield f"{block}.ssm_conv1d.weight", draws.matrix(INNER, CONV)
        yield f"{block}.ssm_conv1d.bias", constant(INNER, 0.0)
        yield f"{block}.ssm_x.weight", draws.matrix(TIME_RANK + 2 * STATE, INNER, 2.0)
        yield f"{block}.ssm_dt.weight", draws.matrix(INNER, TIME_RANK)
        yield f"{block}.ssm_dt.bias", constant(INNER, SLOW)
        yield f"{block}.ssm_a", decays
        yield f"{block}.ssm_d", constant(INNER)
        yield f"{block}.ssm_out.weight", draws.matrix(EMBD, INNER, 2.0)
