"""How tests get sliding-window models: tiny Gemma 3, Gemma 4 and its drafter, on the fly.

Odd layers attend to everything, even layers to the last `window` tokens. What a layer of Gemma 4
adds is small beside the token that it adds it to, so that a drafter which hardly knows more than
the token is right for about a quarter of a text. Tensors and keys are those of llama.cpp's
src/models/gemma3.cpp, gemma4.cpp and gemma4-assistant.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
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

EMBD, FFN, HEADS, HEADS_KV = 64, 128, 4, 2
HEAD = 32  # a width that a q8_0 cache takes
HEAD_GLOBAL = 2 * HEAD  # of Gemma 4 alone
EXPERT_FFN, EXPERTS_USED = 32, 2
DRAFTER_EMBD = 96  # llama.cpp wants it to differ from the target's
BRANCH, FFN_BRANCH = 0.4, 0.1  # what Gemma 4 adds to a token of RMS 1
DRAFTER_BRANCH = 0.05
UNROTATED = 1e30  # a RoPE factor so large that these dimensions do not turn


@dataclass(frozen=True, slots=True)
class Variant:
    """What the sizes of Gemma 4 differ in; see `write_gemma4`."""

    layers: int
    shared_kv_layers: int
    per_layer_embd: int
    experts: int

    def __post_init__(self) -> None:
        shared = self.shared_kv_layers
        if shared % 2 or self.layers % 2 or shared > self.layers - 2:
            raise ValueError(
                "a window layer and a global layer share their keys and values in pairs"
            )
        if 0 < self.experts < EXPERTS_USED:
            raise ValueError(f"{EXPERTS_USED} experts are used, so there must be that many")


def write_gemma3(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 4,
    window: int = 32,
    context: int = 2048,
    scale: float = 4.0,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A random F32 Gemma 3; `scale` and `extra` as in `write_llama`."""
    tokens, types = vocabulary()
    shape = _shape(layers, window, context) | {"attention.sliding_window_pattern": 2}
    metadata = named("gemma3", shape) | tokenizer(tokens, types) | dict(extra or {})
    return write_gguf(path, metadata, _gemma3(Draws(seed), tokens, layers, scale))


def write_gemma4(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 4,
    window: int = 32,
    context: int = 2048,
    shared_kv_layers: int = 0,
    per_layer_embd: int = 0,
    experts: int = 0,
    scale: float = 4.0,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A random F32 Gemma 4; `scale` and `extra` as in `write_llama`.

    The last `shared_kv_layers` (an even number, at most layers - 2) have no keys and values of
    their own and read those of the last layer of their kind that has. `per_layer_embd` is the
    width of the embeddings that each layer adds. E2B and E4B have both. With `experts` (at least
    EXPERTS_USED) each layer has a mixture of experts beside its FFN, as 26B-A4B has.
    """
    variant = Variant(layers, shared_kv_layers, per_layer_embd, experts)
    tokens, types = vocabulary()
    metadata = gemma4_metadata(variant, window, context) | tokenizer(tokens, types)
    tensors = gemma4_tensors(Draws(seed), tokens, variant, scale)
    return write_gguf(path, metadata | dict(extra or {}), tensors)


def write_gemma4_assistant(path: Path, target: Path, *, seed: int = 1, layers: int = 2) -> Path:
    """A drafter for a file of `write_gemma4`, whose vocabulary, widths and window it takes.

    It drafts with the target's own output matrix from the last token and, a little, from the
    hidden row and the target's keys and values; the rest of what the target knows it misses.
    """
    of_target = GGUFReader(target)
    weights = {tensor.name: np.array(tensor.data) for tensor in of_target.tensors}

    def key(name: str) -> int:
        return int(of_target.fields[f"gemma4.{name}"].contents())

    tokens, types = vocabulary(len(weights["output.weight"]))
    metadata = assistant_metadata(layers, key("attention.sliding_window"), key("context_length"))
    tensors = assistant_tensors(Draws(seed), layers, weights["output.weight"])
    return write_gguf(path, metadata | tokenizer(tokens, types), tensors)


def gemma4_metadata(variant: Variant, window: int, context: int) -> dict[str, object]:
    """All but the tokenizer."""
    layers = variant.layers
    shape = _shape(layers, window, context) | _wide_heads(layers) | _options(variant)
    return named("gemma4", shape)


def gemma4_tensors(draws: Draws, tokens: list[str], variant: Variant, scale: float) -> Tensors:
    yield from _ends(draws, tokens, scale)
    yield "rope_freqs.weight", _rope_factors()
    if variant.per_layer_embd:
        width = variant.per_layer_embd * variant.layers
        yield "per_layer_token_embd.weight", draws.matrix(len(tokens), width, variant.layers**0.5)
        yield "per_layer_model_proj.weight", draws.matrix(width, EMBD, EMBD**0.5)
        yield "per_layer_proj_norm.weight", constant(variant.per_layer_embd)
    for layer in range(variant.layers):
        yield from _gemma4_layer(draws, layer, variant)


def assistant_metadata(layers: int, window: int, context: int) -> dict[str, object]:
    """All but the tokenizer; window and context are the target's."""
    shape = _shape(layers, window, context) | _wide_heads(layers)
    shape |= {
        "embedding_length": DRAFTER_EMBD,
        "embedding_length_out": EMBD,
        "nextn_predict_layers": layers,  # all of them: the drafter has no trunk
        "attention.shared_kv_layers": layers,
    }
    return named("gemma4-assistant", shape)


def assistant_tensors(draws: Draws, layers: int, output: NDArray[np.float32]) -> Tensors:
    """The first EMBD dimensions carry the token's embedding, the others the hidden row.

    `output` is the matrix that makes logits of the first.
    """
    rest, carried = DRAFTER_EMBD - EMBD, np.eye(EMBD, dtype=np.float32)
    token = np.hstack([carried, np.zeros((EMBD, EMBD), np.float32)])
    hidden = np.hstack([np.zeros((rest, EMBD), np.float32), draws.matrix(rest, EMBD, BRANCH)])
    yield "token_embd.weight", np.hstack([output, draws.matrix(len(output), rest, BRANCH)])
    yield "output_norm.weight", constant(DRAFTER_EMBD)
    yield "rope_freqs.weight", _rope_factors()
    yield "nextn.pre_projection.weight", np.vstack([token, hidden])
    yield "nextn.post_projection.weight", np.hstack([carried, draws.matrix(EMBD, rest, BRANCH)])
    for layer in range(layers):
        block, head = f"blk.{layer}", HEAD_GLOBAL if _is_global(layer) else HEAD
        yield from _queries(draws, block, DRAFTER_EMBD, head, _sharpness(head), DRAFTER_BRANCH)
        yield from _feed_forward(draws, block, DRAFTER_EMBD, DRAFTER_BRANCH)
        yield f"{block}.layer_output_scale.weight", constant(1)


def _shape(layers: int, window: int, context: int) -> dict[str, object]:
    return {
        "context_length": context,
        "embedding_length": EMBD,
        "block_count": layers,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS_KV,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.sliding_window": window,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 1000000.0,
        "rope.freq_base_swa": 10000.0,
    }


def _wide_heads(layers: int) -> dict[str, object]:
    return {
        "attention.key_length": HEAD_GLOBAL,
        "attention.value_length": HEAD_GLOBAL,
        "attention.key_length_swa": HEAD,
        "attention.value_length_swa": HEAD,
        "attention.sliding_window_pattern": [not _is_global(layer) for layer in range(layers)],
        "rope.dimension_count": HEAD_GLOBAL,
        "rope.dimension_count_swa": HEAD,
    }


def _options(variant: Variant) -> dict[str, object]:
    always: dict[str, object] = {
        "attention.shared_kv_layers": variant.shared_kv_layers,
        "embedding_length_per_layer_input": variant.per_layer_embd,
        "final_logit_softcapping": 30.0,
    }
    of_experts: dict[str, object] = {
        "expert_count": variant.experts,
        "expert_used_count": EXPERTS_USED,
        "expert_feed_forward_length": EXPERT_FFN,
    }
    return always | of_experts if variant.experts else always


def _is_global(layer: int) -> bool:
    return layer % 2 == 1


def _sharpness(head: int) -> float:
    """Of normalised queries and keys where the score is not divided by the root of the width."""
    return float(ATTENTION_SHARPNESS / head**0.25)


def _rope_factors() -> NDArray[np.float32]:
    """Half of the dimensions of a global layer know nothing of positions."""
    quarter = HEAD_GLOBAL // 4
    return np.concatenate([constant(quarter), constant(quarter, UNROTATED)])


def _ends(draws: Draws, tokens: list[str], scale: float) -> Tensors:
    """Embeddings have RMS 1 once llama.cpp has multiplied them by the root of their width."""
    yield "token_embd.weight", draws.matrix(len(tokens), EMBD)
    yield "output_norm.weight", constant(EMBD)
    yield "output.weight", draws.output(tokens, EMBD, scale)


def _gemma3(draws: Draws, tokens: list[str], layers: int, scale: float) -> Tensors:
    yield from _ends(draws, tokens, scale)
    for layer in range(layers):
        block = f"blk.{layer}"
        yield from _queries(draws, block, EMBD, HEAD, ATTENTION_SHARPNESS, 1.0)
        yield from _keys_and_values(draws, block, HEAD, ATTENTION_SHARPNESS)
        yield from _feed_forward(draws, block, EMBD, 1.0)


def _gemma4_layer(draws: Draws, layer: int, variant: Variant) -> Tensors:
    block, head = f"blk.{layer}", HEAD_GLOBAL if _is_global(layer) else HEAD
    yield from _queries(draws, block, EMBD, head, _sharpness(head), BRANCH)
    if layer < variant.layers - variant.shared_kv_layers:
        yield from _keys_and_values(draws, block, head, _sharpness(head))
    yield from _feed_forward(draws, block, EMBD, FFN_BRANCH)
    yield f"{block}.layer_output_scale.weight", constant(1)
    if variant.per_layer_embd:
        yield f"{block}.inp_gate.weight", draws.matrix(variant.per_layer_embd, EMBD)
        yield f"{block}.proj.weight", draws.matrix(EMBD, variant.per_layer_embd)
        yield f"{block}.post_norm.weight", constant(EMBD, FFN_BRANCH)
    if variant.experts:
        yield from _experts(draws, block, variant.experts)


def _queries(
    draws: Draws, block: str, embd: int, head: int, sharpness: float, branch: float
) -> Tensors:
    yield f"{block}.attn_norm.weight", constant(embd)
    yield f"{block}.attn_q.weight", draws.matrix(HEADS * head, embd)
    yield f"{block}.attn_q_norm.weight", constant(head, sharpness)
    yield f"{block}.attn_output.weight", draws.matrix(embd, HEADS * head)
    yield f"{block}.post_attention_norm.weight", constant(embd, branch)


def _keys_and_values(draws: Draws, block: str, head: int, sharpness: float) -> Tensors:
    yield f"{block}.attn_k.weight", draws.matrix(HEADS_KV * head, EMBD)
    yield f"{block}.attn_k_norm.weight", constant(head, sharpness)
    yield f"{block}.attn_v.weight", draws.matrix(HEADS_KV * head, EMBD)


def _feed_forward(draws: Draws, block: str, embd: int, branch: float) -> Tensors:
    yield f"{block}.ffn_norm.weight", constant(embd)
    yield f"{block}.ffn_gate.weight", draws.matrix(FFN, embd)
    yield f"{block}.ffn_up.weight", draws.matrix(FFN, embd)
    yield f"{block}.ffn_down.weight", draws.matrix(embd, FFN)
    yield f"{block}.post_ffw_norm.weight", constant(embd, branch)


def _experts(draws: Draws, block: str, experts: int) -> Tensors:
    """The router's input is divided by the root of its width; its scale undoes that."""
    up = [draws.matrix(2 * EXPERT_FFN, EMBD) for _ in range(experts)]
    down = [draws.matrix(EMBD, EXPERT_FFN) for _ in range(experts)]
    yield f"{block}.ffn_gate_inp.weight", draws.matrix(experts, EMBD)
    yield f"{block}.ffn_gate_inp.scale", constant(EMBD, EMBD**0.5)
    yield f"{block}.pre_ffw_norm_2.weight", constant(EMBD)
    yield f"{block}.post_ffw_norm_1.weight", constant(EMBD)
    yield f"{block}.post_ffw_norm_2.weight", constant(EMBD)
    yield f"{block}.ffn_gate_up_exps.weight", np.stack(up)
    yield f"{block}.ffn_down_exps.weight", np.stack(down)
