"""How tests get an EAGLE-3 head: for a tiny target whose layers add little to a token, on the fly.

Tensors and keys are those of llama.cpp's src/models/eagle3.cpp. Each position attends to itself
alone, so it computes what the target's output layer does with the newest token's embedding: it
is right about as often as the drafter of `write_gemma4_assistant`.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFReader
from tiny import Draws, Tensors, constant, named, tokenizer, vocabulary, write_gguf

HEADS, FFN = 4, 64
SELF = 12.0  # how sharply a position attends to its own token
OWN_SHARE = 4.0  # of a token beside what the target's layers have made of the text
FFN_BRANCH = 0.05


def write_eagle3(
    path: Path, target: Path, *, seed: int = 2, layers: int = 4, own_output: bool = False
) -> Path:
    """A head for a target of so many layers, with the target's embeddings and its output, of which
    it has a copy if `own_output`."""
    weights = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(target).tensors}
    embd = weights["token_embd.weight"].shape[1]
    tokens, types = vocabulary()
    shape = {
        "context_length": 2048,
        "embedding_length": embd,
        "block_count": 1,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": embd // HEADS,
        "target_layers": [1, layers // 2, layers],  # the last one is what leaves the target
        "target_hidden_size": embd,
    }
    metadata = named("eagle3", shape) | tokenizer(tokens, types)
    output = {"output.weight": weights["output.weight"]} if own_output else {}
    return write_gguf(path, metadata, [*_eagle3(Draws(seed), embd), *output.items()])


def _eagle3(draws: Draws, embd: int) -> Tensors:
    own, nothing = np.eye(embd, dtype=np.float32), np.zeros((embd, embd), np.float32)
    yield "fc.weight", draws.matrix(embd, 3 * embd)
    yield "output_norm.weight", constant(embd)
    yield "blk.0.attn_norm.weight", constant(embd)
    yield "blk.0.attn_norm_2.weight", constant(embd)
    sharp = np.concatenate([SELF**0.5 * own, nothing], axis=1)
    yield "blk.0.attn_q.weight", sharp
    yield "blk.0.attn_k.weight", sharp
    yield "blk.0.attn_v.weight", np.concatenate([own, nothing], axis=1)
    yield "blk.0.attn_output.weight", OWN_SHARE * own
    yield "blk.0.ffn_norm.weight", constant(embd)
    yield "blk.0.ffn_gate.weight", draws.matrix(FFN, embd)
    yield "blk.0.ffn_up.weight", draws.matrix(FFN, embd)
    yield "blk.0.ffn_down.weight", draws.matrix(embd, FFN, FFN_BRANCH)
