"""What does a GGUF header say about each layer: heads, widths, kind of memory?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .gguf import Header

# Periods of windows where a header names none, as llama.cpp's src/models have them. The last layer
# of a period has full attention.
PERIODS: Final = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma-embedding": 6,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "mellum": 4,
    "olmo2": 4,
    "plamo3": 8,
}


MAX_LAYERS: Final = 512  # llama.cpp's LLAMA_MAX_LAYERS; it refuses more
MAX_EXPERTS: Final = 1024  # llama.cpp's LLAMA_MAX_EXPERTS


def number(header: Header, key: str) -> int:
    """A hyperparameter; 0 where the header has none of this name that makes sense."""
    return max(header.number(f"{header.architecture}.{key}") or 0, 0)


def of_layer(header: Header, key: str, layer: int) -> int | None:
    """A hyperparameter that is one number, or one for each layer."""
    values = header.values.get(f"{header.architecture}.{key}")
    if not isinstance(values, list):
        value: object = header.number(f"{header.architecture}.{key}")
    else:
        value = values[layer] if layer < len(values) else None
    return max(value, 0) if isinstance(value, int) else None


def num_layers(header: Header) -> int:
    """All layers, those of a NextN head included."""
    return min(number(header, "block_count"), MAX_LAYERS)


def num_experts_used(header: Header) -> int:
    """Experts that compute each row."""
    return min(number(header, "expert_used_count") or 1, MAX_EXPERTS)


def num_head_layers(header: Header) -> int:
    """Layers of a NextN head at the end, which a decode of the target does not compute."""
    return min(number(header, "nextn_predict_layers"), num_layers(header))


def num_kv_heads(header: Header, layer: int) -> int:
    """Heads of keys and values; 0 for a layer without attention."""
    heads_kv = of_layer(header, "attention.head_count_kv", layer)
    return (of_layer(header, "attention.head_count", layer) or 0) if heads_kv is None else heads_kv


def head_widths(header: Header, layer: int) -> tuple[int, int]:
    """Elements of a head's key and value."""
    suffix = "_swa" if is_window(header, layer) else ""
    heads = of_layer(header, "attention.head_count", layer) or 1
    default = number(header, "embedding_length") // heads
    key, value = (
        number(header, f"attention.{side}_length{suffix}")
        or number(header, f"attention.{side}_length")
        or default
        for side in ("key", "value")
    )
    return key, value


def has_kv(header: Header, layer: int) -> bool:
    """Whether a layer keeps keys and values of its own."""
    own = num_layers(header) - number(header, "attention.shared_kv_layers")
    return layer < own and num_kv_heads(header, layer) > 0 and not is_recurrent(header, layer)


def is_window(header: Header, layer: int) -> bool:
    """Whether a layer attends to a sliding window; of a period n, the last layer does not."""
    if not number(header, "attention.sliding_window"):
        return False
    key = f"{header.architecture}.attention.sliding_window_pattern"
    pattern = header.values.get(key)
    if isinstance(pattern, list):
        return layer < len(pattern) and bool(pattern[layer])
    period = header.number(key)
    if period is None:
        period = PERIODS.get(header.architecture, 1)
    return period > 0 and layer % period < period - 1


def is_recurrent(header: Header, layer: int) -> bool:
    """Whether a layer has a state instead of keys and values.

    Of a hybrid every `full_attention_interval`-th layer has attention, and so has a NextN head.
    """
    if not num_kv_heads(header, layer):
        return any(state_elements(header))
    interval = number(header, "full_attention_interval")
    trunk = num_layers(header) - num_head_layers(header)
    return interval > 0 and layer < trunk and (layer + 1) % interval != 0


def state_elements(header: Header) -> Iterator[int]:
    """Elements of a recurrent layer's state: convolution, state space, short convolution."""
    inner, state = number(header, "ssm.inner_size"), number(header, "ssm.state_size")
    groups = number(header, "ssm.group_count")
    yield max(number(header, "ssm.conv_kernel") - 1, 0) * (inner + 2 * groups * state)
    yield state * inner
    yield max(number(header, "shortconv.l_cache") - 1, 0) * number(header, "embedding_length")


def widest_value(header: Header) -> int:
    """Elements of a row of values in the layer that has most of them."""
    layers = range(num_layers(header))
    return max((head_widths(header, i)[1] * num_kv_heads(header, i) for i in layers), default=0)


def vocabulary_size(header: Header) -> int:
    """Rows of the output matrix, which may be the embeddings."""
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    matrix = shapes.get("output.weight") or shapes.get("token_embd.weight") or ()
    return matrix[1] if len(matrix) > 1 else 0
