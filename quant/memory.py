"""How many bytes a model takes in memory, computed from its GGUF header (GUIDE 9.1 and 9.2).

The figures cover weights, KV cache, recurrent states and the attention mask, on all devices
together. The rest of the compute buffer and the logits are not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .gguf import Header
from .types import row_bytes

CELL_STEP: Final = 256  # cells; llama.cpp rounds the cells of a cache up to a multiple (GUIDE 9.1)
STATE_BYTES: Final = 4  # bytes of an element of a recurrent state, always f32 (GUIDE 9.1)
MASK_BYTES: Final = 2  # bytes of an element of the attention mask, f16 (GUIDE 9.2)


@dataclass(frozen=True, slots=True)
class ContextShape:
    """The parameters of a llama.cpp context that determine the size of its cache."""

    cells: int  # n_ctx; all sequences share them (kv_unified)
    sequences: int  # n_seq_max
    ubatch: int  # n_ubatch, in rows
    kv_type: str  # such as "f16" or "q8_0"
    snapshots: int = 0  # n_rs_seq: further states of each sequence, for going back
    slots: int = 0  # 0: as many as the runner makes so many sequences for
    outputs: int = 0  # n_outputs_max; 0: as the runner chooses it for its slots
    is_flash: bool = True  # whether attention is flash attention; with f32 it never is


@dataclass(frozen=True, slots=True)
class Placement:
    """Which part of a model lies on GPUs. The default is a machine without one."""

    gpu_layers: int = 0  # layers from the last on; the output counts as one more, and comes first
    split: tuple[float, ...] = ()  # share of these layers on each GPU, in the order of the GPUs
    host_experts: int = 0  # layers from the first on whose expert tensors stay on the host


@dataclass(frozen=True, slots=True)
class ModelHeaders:
    """The headers of all files that one load reads."""

    target: Header
    drafter: Header | None = None
    projectors: tuple[Header, ...] = ()
    adapter_bytes: int = 0  # of all adapters
    mtp: bool = False  # whether the target's own NextN head drafts; else it is not loaded


@dataclass(frozen=True, slots=True)
class PartBytes:
    """Bytes on one device, by what they hold."""

    weights_bytes: int = 0
    cache_bytes: int = 0  # KV cache and recurrent states
    compute_bytes: int = 0  # compute and output buffers
    adapter_bytes: int = 0
    drafter_bytes: int = 0  # all of the drafter
    projector_bytes: int = 0
    overhead_bytes: int = 0  # of the process and of the driver

    @property
    def total_bytes(self) -> int:
        return sum(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a load takes on the host and on each GPU."""

    host: PartBytes
    gpus: tuple[PartBytes, ...] = ()

    @property
    def total_bytes(self) -> int:
        return self.host.total_bytes + sum(gpu.total_bytes for gpu in self.gpus)


def estimate_memory(
    model: ModelHeaders, context: ContextShape, placement: Placement = Placement()
) -> MemoryEstimate:
    """The memory of a model with one context."""
    header = model.target
    return MemoryEstimate(
        PartBytes(
            weights_bytes(header),
            cache_bytes(header, context),
            mask_bytes(header, context),
            model.adapter_bytes,
            model.drafter.size_bytes if model.drafter else 0,
        )
    )


def weights_bytes(header: Header) -> int:
    """The size of all tensors."""
    return sum(tensor.size_bytes for tensor in header.tensors)


def cache_bytes(header: Header, context: ContextShape) -> int:
    """The size of KV cache and recurrent states by GUIDE 9.1; an upper bound in these cases:

    a window whose layers the header does not name (all count as full attention), an architecture
    without snapshots, and multi-head latent attention. The state of RWKV is not counted.
    """
    if not has_cache(header):
        return 0
    num_layers = _number(header, "block_count") or 0
    shared = _number(header, "attention.shared_kv_layers") or 0
    return sum(_layer_bytes(header, layer, context) for layer in range(num_layers - shared))


def mask_bytes(header: Header, context: ContextShape) -> int:
    """The size of the attention mask, the part of the compute buffer that grows with n_ctx."""
    num_layers = _number(header, "block_count") or 0
    attends = any(_num_kv_heads(header, layer) for layer in range(num_layers))
    return context.cells * context.ubatch * MASK_BYTES if attends and has_cache(header) else 0


def has_cache(header: Header) -> bool:
    """Whether the model keeps a cache between decodes; an encoder does not (GUIDE 1.5)."""
    return header.values.get(f"{header.architecture}.attention.causal") is not False


def has_states(header: Header) -> bool:
    """Whether each sequence takes memory of its own: a sliding window or a recurrent state."""
    return bool(_number(header, "attention.sliding_window")) or any(_state_elements(header))


def _layer_bytes(header: Header, layer: int, context: ContextShape) -> int:
    heads_kv = _num_kv_heads(header, layer)
    if not heads_kv or _is_recurrent(header, layer):
        states = context.sequences * (1 + context.snapshots)
        return states * sum(_state_elements(header)) * STATE_BYTES
    is_window = _is_window(header, layer)
    suffix = "_swa" if is_window else ""
    num_heads = _of_layer(header, "attention.head_count", layer) or 1
    default = (header.embedding_length or 0) // num_heads
    widths = (
        _number(header, f"attention.{side}_length{suffix}")
        or _number(header, f"attention.{side}_length")
        or default
        for side in ("key", "value")
    )
    cells = _window_cells(header, context) if is_window else _padded(context.cells)
    return cells * sum(row_bytes(context.kv_type.upper(), width * heads_kv) for width in widths)


def _num_kv_heads(header: Header, layer: int) -> int:
    """Heads of keys and values; 0 for a layer without attention."""
    heads_kv = _of_layer(header, "attention.head_count_kv", layer)
    return (_of_layer(header, "attention.head_count", layer) or 0) if heads_kv is None else heads_kv


def _window_cells(header: Header, context: ContextShape) -> int:
    window = _number(header, "attention.sliding_window") or 0
    return _padded(min(_padded(context.cells), window * context.sequences + context.ubatch))


def _is_window(header: Header, layer: int) -> bool:
    """Whether a layer attends to a sliding window; of a period n, the last layer does not."""
    pattern = header.values.get(f"{header.architecture}.attention.sliding_window_pattern")
    if not _number(header, "attention.sliding_window"):
        return False
    if isinstance(pattern, list):
        return layer < len(pattern) and bool(pattern[layer])
    period = _number(header, "attention.sliding_window_pattern") or 1
    return layer % period < period - 1


def _is_recurrent(header: Header, layer: int) -> bool:
    """Whether a layer of a hybrid has a state instead of keys and values.

    Every `full_attention_interval`-th layer has attention, and so has a NextN head at the end.
    """
    interval = _number(header, "full_attention_interval") or 0
    trunk = (_number(header, "block_count") or 0) - (_number(header, "nextn_predict_layers") or 0)
    return interval > 0 and layer < trunk and (layer + 1) % interval != 0


def _state_elements(header: Header) -> Iterator[int]:
    """Elements of a recurrent layer's state: convolution, state space, short convolution."""
    inner, state = _number(header, "ssm.inner_size") or 0, _number(header, "ssm.state_size") or 0
    groups = _number(header, "ssm.group_count") or 0
    yield max((_number(header, "ssm.conv_kernel") or 0) - 1, 0) * (inner + 2 * groups * state)
    yield state * inner
    length = _number(header, "shortconv.l_cache") or 0
    yield max(length - 1, 0) * (header.embedding_length or 0)


def _number(header: Header, key: str) -> int | None:
    return header.number(f"{header.architecture}.{key}")


def _of_layer(header: Header, key: str, layer: int) -> int | None:
    """A hyperparameter that is one number, or one for each layer."""
    values = header.values.get(f"{header.architecture}.{key}")
    if not isinstance(values, list):
        return _number(header, key)
    value = values[layer] if layer < len(values) else None
    return value if isinstance(value, int) else None


def _padded(cells: int) -> int:
    return -(-cells // CELL_STEP) * CELL_STEP
