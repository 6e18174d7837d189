"""How tests get an embedding model: a tiny BERT encoder made on the fly.

Its tokenizer is WordPiece over single lower-case characters, with [CLS] and [SEP] around a text.
Tensors and keys are those of llama.cpp's src/models/bert.cpp.
"""

from collections.abc import Mapping
from pathlib import Path
from string import ascii_lowercase, digits, punctuation

from gguf import TokenType
from llama_cpp import llama_cpp as lib
from tiny import ATTENTION_SHARPNESS, Draws, Tensors, constant, named, write_gguf

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORD_START = "\u2581"
HEADS, FFN = 4, 128


def write_bert(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 2,
    embd: int = 64,
    context: int = 512,
    pooling: int | None = lib.LLAMA_POOLING_TYPE_MEAN,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A random F32 BERT that pools by the mean unless `pooling` names another way; None leaves the
    key out. `extra` adds or replaces metadata."""
    tokens = _vocabulary()
    shape = {
        "context_length": context,
        "embedding_length": embd,
        "block_count": layers,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
    } | ({} if pooling is None else {"pooling_type": pooling})
    metadata = named("bert", shape) | _tokenizer(tokens) | dict(extra or {})
    return write_gguf(path, metadata, _bert(Draws(seed), len(tokens), layers, embd, context))


def _vocabulary() -> list[str]:
    """A character starts a word or goes on with one; punctuation is a word of its own."""
    starts = [WORD_START + char for char in ascii_lowercase + digits + punctuation]
    return [*SPECIALS, *starts, *ascii_lowercase, *digits]


def _tokenizer(tokens: list[str]) -> dict[str, object]:
    control, normal = int(TokenType.CONTROL), int(TokenType.NORMAL)
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [control if t in SPECIALS else normal for t in tokens],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": tokens.index("[PAD]"),
        "tokenizer.ggml.unknown_token_id": tokens.index("[UNK]"),
        "tokenizer.ggml.bos_token_id": tokens.index("[CLS]"),
        "tokenizer.ggml.cls_token_id": tokens.index("[CLS]"),
        "tokenizer.ggml.seperator_token_id": tokens.index("[SEP]"),  # GGUF's own spelling
        "tokenizer.ggml.mask_token_id": tokens.index("[MASK]"),
    }


def _bert(draws: Draws, num_tokens: int, layers: int, embd: int, context: int) -> Tensors:
    yield "token_embd.weight", draws.matrix(num_tokens, embd, embd**0.5)
    yield "token_types.weight", draws.matrix(2, embd)
    yield "position_embd.weight", draws.matrix(context, embd, 0.5 * embd**0.5)
    yield from _norm("token_embd_norm", embd)
    for layer in range(layers):
        block = f"blk.{layer}"
        for name, spread in (("q", ATTENTION_SHARPNESS), ("k", ATTENTION_SHARPNESS), ("v", 1.0)):
            yield f"{block}.attn_{name}.weight", draws.matrix(embd, embd, spread)
            yield f"{block}.attn_{name}.bias", constant(embd, 0.0)
        yield from _linear(draws, f"{block}.attn_output", embd, embd)
        yield from _norm(f"{block}.attn_output_norm", embd)
        yield from _linear(draws, f"{block}.ffn_up", FFN, embd)
        yield from _linear(draws, f"{block}.ffn_down", embd, FFN)
        yield from _norm(f"{block}.layer_output_norm", embd)


def _linear(draws: Draws, name: str, rows: int, columns: int) -> Tensors:
    yield f"{name}.weight", draws.matrix(rows, columns)
    yield f"{name}.bias", constant(rows, 0.0)


def _norm(name: str, size: int) -> Tensors:
    yield f"{name}.weight", constant(size)
    yield f"{name}.bias", constant(size, 0.0)
