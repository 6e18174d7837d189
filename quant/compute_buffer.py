"""How large are the compute buffers of a context for text? Its graph, made from the header.

Which blocks a layer has is read from the names of its tensors; one of another kind (multi-head
latent attention, RWKV) counts as far as its tensors have these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .gguf import Header
from .graph_blocks import attend, feed_forward, mix_experts, scan_deltas, scan_states
from .graph_buffer import HOST, Graph, GraphTensor
from .graph_builder import F32, GraphBuilder, GraphShape, LayerWeights
from .kv_cache import (
    ContextShape,
    has_cache,
    num_outputs,
    num_snapshots,
    padded_cells,
    window_cells,
)
from .layers import num_head_layers, num_layers, number, vocabulary_size
from .placement import Placement, device_of_layer, largest_host_matrix

PIPELINE_COPIES: Final = 4  # of what one device sends to another (GGML_SCHED_MAX_COPIES)
OFFLOADED_ROWS: Final = 32  # from so many rows on, a GPU computes what lies on the host

# Architectures whose last layer computes every row, since a drafter may read them (GUIDE 2.2).
WHOLE_LAST_LAYER: Final = frozenset(
    {"gemma4", "glm4moe", "gpt-oss", "nemotron_h", "qwen35", "qwen35moe", "qwen3next", "step35"}
)


def compute_by_device(
    header: Header, context: ContextShape, placement: Placement
) -> Mapping[int, int]:
    """Bytes of the compute buffer of each device that has one."""
    graph = Graph(num_copies=PIPELINE_COPIES if _has_pipeline(header, placement) else 1)
    build = GraphBuilder(header, graph_shape(header, context), graph)
    embd = number(header, "embedding_length")
    build.graph.expand(build.input("rows", embd * build.shape.rows * F32))
    current = build.looked_up(embd)
    build.graph.expand(current)
    layers = num_layers(header)
    build.device = device_of_layer(placement, layers, 0)
    per_layer = _per_layer_rows(build, current)
    keeps_rows = header.architecture in WHOLE_LAST_LAYER
    blocks, trunk = layer_weights(header), layers - num_head_layers(header)
    for layer, weights in sorted(blocks.items()):
        if layer >= trunk:
            break
        build.device = device_of_layer(placement, layers, layer)
        is_cut = layer == trunk - 1 and not keeps_rows and has_cache(header)
        current = add_layer(build, layer, weights, current, per_layer, is_cut=is_cut)
    build.device = device_of_layer(placement, layers, layers)
    current = build.in_place(current)
    current.is_output = True
    if has_cache(header):
        current = build.outputs_of(current) if keeps_rows else current
        build.finish(current, embd, vocabulary_size(header))
    else:  # an encoder has no logits
        build.graph.expand(current)
    return _with_offload(header, context, placement, build.graph.buffer_bytes())


def _has_pipeline(header: Header, placement: Placement) -> bool:
    """Several GPUs that have all layers compute parts of a prompt at the same time."""
    is_whole = placement.gpu_layers > num_layers(header) and not placement.host_experts
    return is_whole and sum(share > 0 for share in placement.split) > 1


def graph_shape(header: Header, context: ContextShape) -> GraphShape:
    """The decode for which llama.cpp reserves its buffers: as many rows of each sequence."""
    rows = min(context.cells, context.ubatch)
    sequences = context.sequences
    return GraphShape(
        -(-rows // sequences) * sequences,
        min(rows, num_outputs(header, context)),
        sequences,
        padded_cells(context.cells) if has_cache(header) else rows,
        window_cells(header, context) if has_cache(header) else rows,
        num_snapshots(header, context),
        context.has_flash,
        context.kv_type.startswith("q"),
    )


def _with_offload(
    header: Header, context: ContextShape, placement: Placement, found: dict[int, int]
) -> Mapping[int, int]:
    """The first GPU copies matrices that lie on the host, one by one, to compute prompts."""
    if context.ubatch >= OFFLOADED_ROWS and (copied := largest_host_matrix(header, placement)):
        found[0] = found.get(0, 0) + copied
    return found


def layer_weights(header: Header) -> Mapping[int, LayerWeights]:
    """The shapes of each layer's tensors."""
    shapes: dict[int, dict[str, tuple[int, ...]]] = {}
    for tensor in header.tensors:
        prefix, _, rest = tensor.name.partition(".")
        layer, _, name = rest.partition(".")
        if prefix == "blk" and layer.isdecimal():
            shapes.setdefault(int(layer), {})[name] = tensor.shape
    return shapes


def add_layer(
    build: GraphBuilder,
    layer: int,
    weights: LayerWeights,
    source: GraphTensor,
    per_layer: GraphTensor | None = None,
    *,
    mixed_from: GraphTensor | None = None,
    is_cut: bool = False,
) -> GraphTensor:
    """What a layer makes of its rows; only of those that become logits if it `is_cut`.

    Attention reads the norm of the rows, or `mixed_from`.
    """
    normed = build.in_place(source) if mixed_from is None else mixed_from
    mixed = _mix_rows(build, layer, weights, normed)
    if is_cut:
        mixed, source = build.outputs_of(mixed), build.outputs_of(source)
        shape = replace(build.shape, rows=build.shape.outputs)
        build = GraphBuilder(build.header, shape, build.graph, build.device)
    if {"post_attention_norm.weight", "ffn_norm.weight"} <= set(weights):
        mixed = build.in_place(mixed)
    mixed = build.in_place(mixed, source)
    if not any(name.startswith("ffn_") for name in weights):
        return mixed
    return _add_feed_forward(build, weights, mixed, per_layer)


def _mix_rows(
    build: GraphBuilder, layer: int, weights: LayerWeights, normed: GraphTensor
) -> GraphTensor:
    """What the rows learn of each other."""
    if "ssm_out.weight" not in weights:
        return attend(build, layer, weights, normed) if "attn_output.weight" in weights else normed
    build.graph.expand(normed)
    scan = scan_deltas if "attn_qkv.weight" in weights else scan_states
    return scan(build, weights, normed)


def _add_feed_forward(
    build: GraphBuilder, weights: LayerWeights, source: GraphTensor, per_layer: GraphTensor | None
) -> GraphTensor:
    if "ffn_gate_inp.weight" in weights:
        result = _expert_layer(build, weights, source)
    else:
        result = feed_forward(build, weights, build.in_place(source))
    result = build.in_place(build.in_place(result), source)
    if per_layer is not None and "inp_gate.weight" in weights:
        width, embd = weights["proj.weight"][:2]
        gated = build.in_place(build.in_place(build.rows(width, result)), per_layer)
        result = build.in_place(result, build.in_place(build.rows(embd, gated)))
    return result


def _expert_layer(build: GraphBuilder, weights: LayerWeights, source: GraphTensor) -> GraphTensor:
    """Chosen experts, and what always adds to them."""
    normed = build.in_place(source)
    if "ffn_gate_inp.scale" in weights:  # Gemma 4: the router has a norm of its own
        mixed = mix_experts(build, weights, normed, build.in_place(source))
        dense = feed_forward(build, weights, build.in_place(source))
        return build.in_place(build.in_place(dense), build.in_place(mixed))
    mixed = mix_experts(build, weights, normed, normed)
    if "ffn_down_shexp.weight" not in weights:
        return mixed
    shared = feed_forward(build, weights, normed, "_shexp")
    if "ffn_gate_inp_shexp.weight" in weights:
        shared = build.in_place(shared, build.in_place(build.rows(1, normed)))
    return build.in_place(mixed, shared)


def _per_layer_rows(build: GraphBuilder, current: GraphTensor) -> GraphTensor | None:
    """The embeddings that each layer of Gemma 3n and 4 adds, of all layers."""
    width = number(build.header, "embedding_length_per_layer_input") * num_layers(build.header)
    if not width:
        return None
    device, build.device = build.device, HOST  # they are looked up where their matrix lies
    found = build.rows(width, build.input("tokens of layers", build.shape.rows * F32))
    build.device = device
    is_copied = device != HOST  # a copy is scaled in its place, a view of the host's own is not
    found = build.in_place(found) if is_copied else build.rows(width, found)
    build.graph.expand(found)
    projected = build.rows(width, build.rows(width, current))
    return build.rows(width, build.in_place(projected, found))
