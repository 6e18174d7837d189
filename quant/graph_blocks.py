"""Which tensors do the blocks of a layer compute: attention, recurrence, feed-forward, experts?

Each takes and returns a tensor of as many rows. The order is that of llama.cpp's builders
(src/llama-graph.cpp, src/models/qwen35.cpp, gemma4.cpp and mamba-base.cpp).
"""

from __future__ import annotations

from typing import Final

from .graph_buffer import GraphTensor
from .graph_builder import F32, GraphBuilder, LayerWeights
from .layers import head_widths, is_window, num_experts_used, number, of_layer, widest_value

CELL_INDEX: Final = 8  # bytes; the number of the cell that a row of keys or values is written to
ROTATED: Final = 64  # elements; keys and values of a multiple of them are rotated (GUIDE 9.1)


def attend(
    build: GraphBuilder, layer: int, weights: LayerWeights, source: GraphTensor
) -> GraphTensor:
    """Self-attention with keys and values of its own or of another layer."""
    gate, query = _queries(build, layer, weights, source)
    query = _rotated(build, layer, query, is_value=False)
    key, value = _keys_and_values(build, layer, weights, source)
    tensors = (query, key, value) if _has_windows(build) else (query, value, key)
    for tensor in tensors:
        if tensor is not None:
            build.graph.expand(tensor)
    _write_cells(build, layer, key, value)
    attended = _attended(build, layer, weights, query)
    build.graph.expand(attended)
    attended = _rotated(build, layer, attended, is_value=True)
    if gate is not None:
        attended = build.in_place(build.in_place(gate), attended)
    return build.rows(weights["attn_output.weight"][1], attended)


def _queries(
    build: GraphBuilder, layer: int, weights: LayerWeights, source: GraphTensor
) -> tuple[GraphTensor | None, GraphTensor]:
    """A gate that lies beside the queries, and these."""
    width = weights["attn_output.weight"][0]
    fused = weights.get("attn_qkv.weight") or weights.get("attn_q.weight")
    product = build.rows(fused[1] if fused else width, source)
    positions = build.positions()
    query = build.rows(width, product, positions)  # norm or RoPE of a view by heads
    has_gate = "attn_q.weight" in weights and weights["attn_q.weight"][1] == 2 * width
    return (build.rows(width, product) if has_gate else None), query


def _keys_and_values(
    build: GraphBuilder, layer: int, weights: LayerWeights, source: GraphTensor
) -> tuple[GraphTensor | None, GraphTensor | None]:
    if "attn_k.weight" not in weights:
        return None, None
    width = weights["attn_k.weight"][1]
    product = build.rows(width, source)
    key = build.rows(width, product, build.positions())
    if "attn_v.weight" not in weights:
        value = build.rows(width, product)  # keys without RoPE serve as values
    else:
        value = build.rows(weights["attn_v.weight"][1], source)
        if build.header.architecture == "gemma4":  # values have a norm without weights
            value = build.rows(weights["attn_v.weight"][1], value)
    return (
        _rotated(build, layer, key, is_value=False),
        _rotated(build, layer, value, is_value=True),
    )


def _rotated(
    build: GraphBuilder, layer: int, tensor: GraphTensor, *, is_value: bool
) -> GraphTensor:
    """Before a quantised cache, rows are multiplied with a Hadamard matrix (GUIDE 9.1)."""
    width = head_widths(build.header, layer)[is_value]
    if not build.shape.is_quantised or head_widths(build.header, 0)[is_value] % ROTATED:
        return tensor
    side = ROTATED if is_value else width & -width
    name = f"rotation {is_value} {is_window(build.header, layer)}"
    return build.made(tensor.size_bytes, build.input(name, side * side * F32), tensor)


def _write_cells(
    build: GraphBuilder, layer: int, key: GraphTensor | None, value: GraphTensor | None
) -> None:
    window = is_window(build.header, layer)
    for name, tensor in (("key", key), ("value", value)):
        if tensor is not None:
            size_bytes = build.shape.rows * CELL_INDEX
            if name == "value" and not build.shape.is_flash:  # values lie transposed
                size_bytes *= widest_value(build.header)
            build.store(tensor, build.input(f"{name} cells {window}", size_bytes))


def _attended(
    build: GraphBuilder, layer: int, weights: LayerWeights, query: GraphTensor
) -> GraphTensor:
    """Without flash attention the scores of all cells are a tensor."""
    shape, window = build.shape, is_window(build.header, layer)
    width = weights["attn_output.weight"][0]
    mask = build.mask(is_window=window)
    if shape.is_flash:
        return build.rows(width, query, mask)
    cells = shape.window_cells if window else shape.full_cells
    heads = of_layer(build.header, "attention.head_count", layer) or 1
    scores = build.in_place(build.rows(heads * cells, query), mask)
    return build.rows(width, build.rows(width, scores))


def _has_windows(build: GraphBuilder) -> bool:
    return number(build.header, "attention.sliding_window") > 0


def feed_forward(
    build: GraphBuilder, weights: LayerWeights, source: GraphTensor, suffix: str = ""
) -> GraphTensor:
    """Two products with an activation between them, with or without a gate."""
    width, embd = weights[f"ffn_down{suffix}.weight"][:2]
    up = weights.get(f"ffn_up{suffix}.weight")
    hidden = build.rows(up[1] if up else width, source)
    if f"ffn_gate{suffix}.weight" in weights:
        hidden = build.rows(width, build.rows(width, source), hidden)
    elif up and up[1] == 2 * width:
        hidden = build.rows(width, hidden)
    else:
        hidden = build.in_place(hidden)
    return build.rows(embd, hidden)


def mix_experts(
    build: GraphBuilder, weights: LayerWeights, source: GraphTensor, routed: GraphTensor
) -> GraphTensor:
    """The experts that a router chooses from the rows of `routed`."""
    width, embd = weights["ffn_down_exps.weight"][:2]
    experts = weights["ffn_gate_inp.weight"][1]
    used = num_experts_used(build.header)
    scores = build.in_place(build.rows(experts, routed))
    order = build.rows(experts, scores)
    chosen = build.rows(used, scores, order)
    chosen = build.in_place(chosen, build.rows(1, chosen))
    build.graph.expand(chosen)
    merged = weights.get("ffn_gate_up_exps.weight")
    if merged:
        hidden = build.rows(used * width, build.rows(used * merged[1], source, order))
    else:
        up = build.rows(used * width, source, order)
        gate = build.rows(used * width, source, order)
        hidden = build.rows(used * width, gate, up)
    parts = build.in_place(build.rows(used * embd, hidden, order), chosen)
    build.graph.expand(parts)
    mixed = build.rows(embd, parts, parts)
    for _ in range(used - 2):
        mixed = build.in_place(mixed, parts)
    build.graph.expand(mixed)
    return mixed


def scan_deltas(build: GraphBuilder, weights: LayerWeights, source: GraphTensor) -> GraphTensor:
    """A gated delta net (qwen35)."""
    shape, header = build.shape, build.header
    inner, heads = number(header, "ssm.inner_size"), number(header, "ssm.time_step_rank")
    state, groups = number(header, "ssm.state_size"), number(header, "ssm.group_count")
    mixed = build.rows(weights["attn_qkv.weight"][1], source)
    gate = build.rows(inner, build.rows(inner, source))
    beta, alpha = (build.rows(heads, build.rows(heads, source)) for _ in range(2))
    convolved = _convolved(build, mixed, weights["attn_qkv.weight"][1], 1 + shape.snapshots)
    states = build.made(shape.sequences * inner * state * F32, _state_ids(build))
    build.graph.expand(states)
    convolved = build.in_place(convolved)
    query, key = (build.rows(groups * state, convolved) for _ in range(2))
    scanned_bytes = inner * shape.rows * F32 + (1 + shape.snapshots) * states.size_bytes
    scanned = build.made(scanned_bytes, query, key, convolved, alpha, beta, states)
    build.store(scanned)
    normed = build.rows(inner, scanned)
    return build.rows(weights["ssm_out.weight"][1], build.in_place(normed, gate))


def scan_states(build: GraphBuilder, weights: LayerWeights, source: GraphTensor) -> GraphTensor:
    """A selective state space (mamba)."""
    shape, header = build.shape, build.header
    inner, state = number(header, "ssm.inner_size"), number(header, "ssm.state_size")
    rank = number(header, "ssm.time_step_rank")
    both = build.rows(2 * inner, source)
    convolved = build.in_place(_convolved(build, both, inner, 1))
    parts = build.rows(rank + 2 * state, convolved)
    step = build.in_place(build.rows(inner, build.rows(rank, parts)))
    scanned_bytes = (inner * shape.rows + shape.sequences * inner * state) * F32
    scanned = build.made(scanned_bytes, convolved, step, parts, _state_ids(build))
    build.store(scanned)
    result = build.in_place(build.in_place(convolved), scanned)
    return build.rows(
        weights["ssm_out.weight"][1], build.rows(inner, build.rows(inner, both), result)
    )


def _convolved(
    build: GraphBuilder, source: GraphTensor, channels: int, num_states: int
) -> GraphTensor:
    """A convolution over the newest rows and those that each sequence remembers."""
    shape = build.shape
    kept = shape.sequences * channels * (number(build.header, "ssm.conv_kernel") - 1) * F32
    remembered = build.made(kept, _state_ids(build))
    build.graph.expand(remembered)
    rows = build.made(kept + channels * shape.rows * F32, remembered, source)
    for _ in range(num_states):
        build.store(rows)
    return build.rows(channels, rows)


def _state_ids(build: GraphBuilder) -> GraphTensor:
    return build.input("state ids", build.shape.sequences * F32)
