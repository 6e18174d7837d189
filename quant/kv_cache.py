"""How many bytes does a context remember: keys and values of cells, states of sequences?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .gguf import Header
from .layers import (
    has_kv,
    head_widths,
    is_recurrent,
    is_window,
    num_head_layers,
    num_kv_heads,
    num_layers,
    number,
    state_elements,
    widest_value,
)
from .placement import Placement, device_of_layer
from .types import row_bytes

CELL_STEP: Final = 256  # cells; llama.cpp rounds the cells of a cache up to a multiple (GUIDE 9.1)
STATE_BYTES: Final = 4  # bytes of an element of a recurrent state, always f32 (GUIDE 9.1)
MAX_RELEASED: Final = 16  # sequences for released prefixes at most, of the runner's context
DRAFT_ROWS: Final = 49  # rows of a slot in one decode at most: a token and its drafts
MAX_OUTPUTS: Final = 64  # rows with logits in one decode of the runner at most

# Architectures whose states can go back to a snapshot; in others there are none (llama.cpp's
# llm_arch_supports_rs_rollback).
WITH_SNAPSHOTS: Final = frozenset(
    {
        "bailingmoe3",
        "deepseek4",
        "glm5-next",
        "kimi-k3",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen35",
        "qwen35moe",
        "qwen4exp",
    }
)


@dataclass(frozen=True, slots=True)
class ContextShape:
    """The parameters of a llama.cpp context that determine the size of its buffers."""

    cells: int  # n_ctx; all sequences share them (kv_unified)
    sequences: int  # n_seq_max
    ubatch: int  # n_ubatch, in rows
    kv_type: str  # such as "f16" or "q8_0"
    snapshots: int = 0  # n_rs_seq: further states of each sequence, for going back
    slots: int = 0  # 0: as many as the runner makes so many sequences for
    outputs: int = 0  # n_outputs_max; 0: as the runner chooses it for its slots
    is_flash: bool = True  # whether attention is flash attention; with f32 it never is

    @property
    def has_flash(self) -> bool:
        return self.is_flash and self.kv_type != "f32"


def num_slots(header: Header, context: ContextShape) -> int:
    """The slots of a context; the inverse of the runner's `num_seqs` where they are not stated."""
    if context.slots:
        return context.slots
    if has_states(header):
        return max(context.sequences * 2 // 3, 1)
    return max(context.sequences // 3, context.sequences - MAX_RELEASED, 1)


def released_sequences(header: Header, slots: int) -> int:
    """Sequences for released prefixes, besides one for each slot, as the runner makes them."""
    return -(-slots // 2) if has_states(header) else min(slots * 2, MAX_RELEASED)


def num_outputs(header: Header, context: ContextShape) -> int:
    """Rows of one decode that become logits, at most."""
    if context.outputs:
        return context.outputs
    drafted = min(num_slots(header, context) * DRAFT_ROWS, MAX_OUTPUTS, context.ubatch)
    return max(context.sequences, drafted)


def cache_bytes(header: Header, context: ContextShape) -> int:
    """The size of KV cache and recurrent states on all devices together; see `cache_by_device`."""
    return sum(cache_by_device(header, context, Placement()).values())


def cache_by_device(
    header: Header, context: ContextShape, placement: Placement
) -> Mapping[int, int]:
    """Bytes of KV cache and recurrent states by GUIDE 9.1, where the layers are.

    An upper bound where the header does not name the layers with a window (all count as full
    attention), and for multi-head latent attention. The state of RWKV is not counted.
    """
    layers, found = num_layers(header), dict[int, int]()
    trunk = layers - num_head_layers(header) if has_cache(header) else 0
    for layer in range(trunk):
        device = device_of_layer(placement, layers, layer)
        found[device] = found.get(device, 0) + layer_bytes(header, layer, context)
    return found


def layer_bytes(header: Header, layer: int, context: ContextShape) -> int:
    """What one layer remembers."""
    if is_recurrent(header, layer):
        states = context.sequences * (1 + num_snapshots(header, context))
        return states * sum(state_elements(header)) * STATE_BYTES
    if not has_kv(header, layer):
        return 0
    is_swa, heads = is_window(header, layer), num_kv_heads(header, layer)
    key, value = (width * heads for width in head_widths(header, layer))
    if not context.has_flash:  # values lie transposed, and all layers have the same rows
        value = widest_value(header)
    cells = window_cells(header, context) if is_swa else padded_cells(context.cells)
    return cells * sum(row_bytes(context.kv_type.upper(), width) for width in (key, value))


def num_snapshots(header: Header, context: ContextShape) -> int:
    """Further states that a recurrent layer keeps of each sequence (GUIDE 4.4)."""
    return context.snapshots if header.architecture in WITH_SNAPSHOTS else 0


def has_cache(header: Header) -> bool:
    """Whether the model keeps a cache between decodes; an encoder does not (GUIDE 1.5)."""
    return header.values.get(f"{header.architecture}.attention.causal") is not False


def has_states(header: Header) -> bool:
    """Whether each sequence takes memory of its own: a sliding window or a recurrent state."""
    return number(header, "attention.sliding_window") > 0 or any(state_elements(header))


def window_cells(header: Header, context: ContextShape) -> int:
    """Cells of the layers with a window: one window for each sequence, and the newest rows."""
    window = number(header, "attention.sliding_window")
    cells = padded_cells(context.cells)
    return padded_cells(min(cells, window * context.sequences + context.ubatch))


def padded_cells(cells: int) -> int:
    return -(-cells // CELL_STEP) * CELL_STEP
