"""How much memory does a model take, by what the header of its GGUF file says?"""

from dataclasses import dataclass
from typing import Final

from .gguf import Header
from .types import tensor_bytes

CELL_STEP: Final = 256  # cells; llama.cpp pads a context to a multiple of it (GUIDE 9.1)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What loading a model takes, by part; compute buffers are not included yet."""

    weights_bytes: int
    kv_bytes: int
    drafter_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.drafter_bytes


def weights_bytes(header: Header) -> int:
    """Bytes of all tensors of a file."""
    return sum(tensor.size_bytes for tensor in header.tensors)


def kv_cache_bytes(header: Header, *, cells: int, kv_type: str) -> int:
    """Bytes of the KV cache of `cells` cells whose keys and values have the type `kv_type`.

    The formula is GUIDE 9.1's for plain attention in every layer. It is an upper bound for models
    with sliding windows, and leaves out recurrent states. It is 0 for a header without the facts.
    """
    heads = header.number(f"{header.architecture}.attention.head_count") or 0
    layers, width = header.block_count or 0, header.embedding_length or 0
    head_width = width // heads if heads else 0
    key_width = header.number(f"{header.architecture}.attention.key_length") or head_width
    value_width = header.number(f"{header.architecture}.attention.value_length") or head_width
    row_bytes = sum(
        _row_bytes(kv_type, kv_heads * key_width) + _row_bytes(kv_type, kv_heads * value_width)
        for kv_heads in _kv_heads(header, layers, heads)
    )
    return -(-cells // CELL_STEP) * CELL_STEP * row_bytes


def _kv_heads(header: Header, layers: int, heads: int) -> list[int]:
    """Heads of keys and values, by layer: one number for all layers, or a list of them."""
    stated = header.values.get(f"{header.architecture}.attention.head_count_kv")
    if isinstance(stated, list):
        return [count for count in stated if isinstance(count, int)]
    return [stated if isinstance(stated, int) else heads] * layers


def _row_bytes(kv_type: str, width: int) -> int:
    """Bytes of a row; quantized types store whole blocks of 32 elements."""
    return tensor_bytes(kv_type.upper(), (-(-width // 32) * 32,)) if width else 0
