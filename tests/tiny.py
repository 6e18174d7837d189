"""How tests get a GGUF file: tiny llama models made on the fly, which llama.cpp really loads.

What any architecture needs is here too; the others are in tiny_gemma, tiny_recurrent, tiny_bert.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from gguf import GGUFValueType, GGUFWriter, TokenType
from numpy.typing import NDArray

Tensors: TypeAlias = Iterable[tuple[str, NDArray[np.float32]]]  # by name, rows by columns

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "t he", "Ġ the", "i n", "a n")

ATTENTION_SHARPNESS = (
    1.6  # the spread of queries and keys: attention picks few tokens, not the mean
)
RARE = 0.1  # how far the logits of tokens outside printable ASCII spread, beside the others


@dataclass(frozen=True, slots=True)
class Shape:
    layers: int
    embd: int
    heads: int
    heads_kv: int
    ffn: int
    context: int


def write_llama(
    path: Path,
    *,
    seed: int = 0,
    vocab: int | None = None,
    layers: int = 2,
    embd: int = 64,
    heads: int = 4,
    heads_kv: int = 2,
    ffn: int = 128,
    context: int = 2048,
    template: str | None = CHATML,
    scale: float = 4.0,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A random F32 llama model with a byte-level tokenizer; the same arguments give the same file.

    `scale` is the standard deviation of the logits of printable ASCII tokens. Those of control
    tokens and other bytes spread ten times less, so greedy text is ASCII and does not end by
    itself. `vocab` adds unused tokens up to that many. `extra` adds or replaces metadata (int is
    written as u32).
    """
    shape = Shape(layers, embd, heads, heads_kv, ffn, context)
    tokens, types = vocabulary(vocab)
    metadata = named("llama", llama_keys(shape) | {"vocab_size": len(tokens)})
    metadata |= tokenizer(tokens, types, template) | dict(extra or {})
    return write_gguf(path, metadata, _weights(Draws(seed), tokens, shape, scale))


def named(architecture: str, hyperparameters: Mapping[str, object]) -> dict[str, object]:
    """Metadata of an architecture; its hyperparameters get its name as a prefix."""
    general = {"general.architecture": architecture, "general.file_type": 0}
    return general | {f"{architecture}.{key}": value for key, value in hyperparameters.items()}


def write_gguf(path: Path, metadata: Mapping[str, object], tensors: Tensors) -> Path:
    """A GGUF file with these metadata and tensors; its model is called after its path."""
    writer = GGUFWriter(path, str(metadata["general.architecture"]))
    for key, value in ({"general.name": path.stem} | dict(metadata)).items():
        if key != "general.architecture":  # the writer has put it first
            _add(writer, key, value)
    for name, tensor in tensors:
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def set_tensor_type(path: Path, tensor: str, number: int) -> None:
    """Claims in the header that the tensor has another type; its data stay as they are."""
    data, name = bytearray(path.read_bytes()), tensor.encode()
    start = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
    (dimensions,) = struct.unpack_from("<I", data, start)
    struct.pack_into("<I", data, start + 4 + 8 * dimensions, number)
    path.write_bytes(data)


def write_gguf_header(path: Path, *, tokens: int, merges: int) -> Path:
    """A GGUF v3 file without tensors, whose vocabulary is as big as asked; written fast."""
    vocabulary = [f"Ġtoken{i}" for i in range(tokens)]
    pairs = [f"Ġtoken{i} Ġtoken{i + 1}" for i in range(merges)]
    entries = [
        _entry("general.architecture", GGUFValueType.STRING, _text("llama")),
        _entry("tokenizer.ggml.model", GGUFValueType.STRING, _text("gpt2")),
        _entry("tokenizer.ggml.tokens", GGUFValueType.ARRAY, _texts(vocabulary)),
        _entry("tokenizer.ggml.scores", GGUFValueType.ARRAY, _zeros(tokens, GGUFValueType.FLOAT32)),
        _entry(
            "tokenizer.ggml.token_type", GGUFValueType.ARRAY, _zeros(tokens, GGUFValueType.INT32)
        ),
        _entry("tokenizer.ggml.merges", GGUFValueType.ARRAY, _texts(pairs)),
        _entry("llama.context_length", GGUFValueType.UINT32, struct.pack("<I", 131072)),
    ]
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries))
    path.write_bytes(start + b"".join(entries))
    return path


def llama_keys(shape: Shape) -> dict[str, object]:
    return {
        "context_length": shape.context,
        "embedding_length": shape.embd,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.heads_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": shape.embd // shape.heads,
        "rope.freq_base": 10000.0,
    }


def tokenizer(
    tokens: list[str], types: list[int], template: str | None = CHATML
) -> dict[str, object]:
    """Metadata of a byte-level tokenizer and, unless None, of a chat template."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
    } | ({} if template is None else {"tokenizer.chat_template": template})


def vocabulary(size: int | None = None) -> tuple[list[str], list[int]]:
    """Tokens and their types: bytes, some merges, control tokens, unused ones up to that size."""
    normal = [*byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES)]
    tokens = [*normal, *SPECIALS]
    types = [int(TokenType.NORMAL)] * len(normal) + [int(TokenType.CONTROL)] * len(SPECIALS)
    missing = (size or len(tokens)) - len(tokens)
    if missing < 0:
        raise ValueError(f"a tiny vocabulary has at least {len(tokens)} tokens")
    tokens += [f"<|unused_{i}|>" for i in range(missing)]
    types += [int(TokenType.UNUSED)] * missing
    return tokens, types


def byte_alphabet() -> list[str]:
    """GPT-2's character for each byte: visible Latin-1 as it is, the rest from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(b) if b in visible else chr(0x100 + hidden.index(b)) for b in range(256)]


def _is_printable(token: str) -> bool:
    return token.replace("Ġ", "").isascii() and not token.startswith("<|")


class Draws:
    """Random tensors. Inputs have RMS 1 (they are normalised), outputs have RMS `spread`."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def matrix(self, rows: int, columns: int, spread: float = 1.0) -> NDArray[np.float32]:
        output_tokens = self.rng.normal(0.0, spread / np.sqrt(columns), (rows, columns))
        return output_tokens.astype(np.float32)

    def output(self, tokens: list[str], embd: int, scale: float) -> NDArray[np.float32]:
        """The matrix of the logits: those of printable ASCII spread by `scale`, others less."""
        common = np.array([_is_printable(token) for token in tokens])
        output = self.matrix(len(tokens), embd, scale)
        return np.where(common[:, None], output, np.float32(RARE) * output)


def constant(size: int, value: float = 1.0) -> NDArray[np.float32]:
    """A vector of equal values, such as the weights of a norm."""
    return np.full(size, value, np.float32)


def _weights(draws: Draws, tokens: list[str], shape: Shape, scale: float) -> Tensors:
    matrix, embd, kv = draws.matrix, shape.embd, shape.embd // shape.heads * shape.heads_kv
    yield "token_embd.weight", matrix(len(tokens), embd, 0.5 * np.sqrt(embd))
    yield "output_norm.weight", constant(embd)
    yield "output.weight", draws.output(tokens, embd, scale)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", constant(embd)
        yield f"{block}.attn_q.weight", matrix(embd, embd, ATTENTION_SHARPNESS)
        yield f"{block}.attn_k.weight", matrix(kv, embd, ATTENTION_SHARPNESS)
        yield f"{block}.attn_v.weight", matrix(kv, embd)
        yield f"{block}.attn_output.weight", matrix(embd, embd)
        yield f"{block}.ffn_norm.weight", constant(embd)
        yield f"{block}.ffn_gate.weight", matrix(shape.ffn, embd)
        yield f"{block}.ffn_up.weight", matrix(shape.ffn, embd)
        yield f"{block}.ffn_down.weight", matrix(embd, shape.ffn)


def _add(writer: GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, int) and not isinstance(value, bool):
        writer.add_uint32(key, value)
    else:
        writer.add_key_value(key, value, GGUFValueType.get_type(value))


def _entry(key: str, kind: GGUFValueType, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _texts(texts: list[str]) -> bytes:
    return struct.pack("<IQ", GGUFValueType.STRING, len(texts)) + b"".join(map(_text, texts))


def _zeros(count: int, kind: GGUFValueType) -> bytes:
    return struct.pack("<IQ", kind, count) + bytes(4 * count)
