"""How many bytes does a drafter take, beside its target? All of it lies on one device.

The contexts are those that the runner makes (daemon/runner/llama/draft_contexts.py, GUIDE 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .compute_buffer import add_layer, compute_by_device, layer_weights
from .gguf import Header
from .graph_buffer import GraphTensor
from .graph_builder import F32, GraphBuilder, GraphShape
from .kv_cache import (
    ContextShape,
    cache_bytes,
    layer_bytes,
    num_outputs,
    num_slots,
    padded_cells,
    released_sequences,
    window_cells,
)
from .layers import num_head_layers, num_layers, number, vocabulary_size
from .placement import Placement, layer_number, weights_by_device

ASSISTANT: Final = "gemma4-assistant"
EAGLE: Final = "eagle3"
ASSISTANT_ROWS: Final = 32  # rows of one decode of an assistant, at least
DRAFTED_ROWS: Final = 18  # rows of a slot in one decode of another drafter, at least
TAPPED_LAYERS: Final = 3  # layers of the target that an EAGLE-3 head reads


@dataclass(frozen=True, slots=True)
class DrafterBytes:
    """What a drafter takes. The output buffers lie on the host, the rest beside the target; of
    the weights, a GPU has its own and the host the embeddings."""

    weights: Mapping[int, int]  # by device, if the first GPU has the drafter
    cache: int
    compute: int
    output: int
    growth: int = 0  # by which the drafter makes output buffers grow in use, its target's too


def drafter_sizes(drafter: Header | None, target: Header, context: ContextShape) -> DrafterBytes:
    """The sizes of a drafter, or without one of the target's own NextN head."""
    if drafter is None:
        return _head_sizes(target, context)
    if drafter.architecture == ASSISTANT:
        return _assistant_sizes(drafter, target, context)
    if drafter.architecture == EAGLE:
        return _eagle_sizes(drafter, target, context)
    return _model_sizes(drafter, target, context)


def _assistant_sizes(drafter: Header, target: Header, context: ContextShape) -> DrafterBytes:
    """It attends to its target's cache, and has none (GUIDE 2.1)."""
    sequences = context.sequences
    rows = -(-max(sequences, ASSISTANT_ROWS) // sequences) * sequences
    shape = replace(_draft_shape(context, rows), window_cells=window_cells(target, context))
    build, width = GraphBuilder(drafter, shape), number(drafter, "embedding_length_out")
    embd, vocab = number(drafter, "embedding_length"), vocabulary_size(drafter)
    hidden = build.input("hidden", rows * width * F32)
    token = build.in_place(build.rows(width, build.input("tokens", rows * F32)))
    current = build.rows(embd, build.rows(2 * width, token, hidden))
    blocks, layers = layer_weights(drafter), num_layers(drafter)
    for layer in range(layers):
        is_cut = layer == layers - 1
        current = add_layer(build, layer, blocks.get(layer, {}), current, is_cut=is_cut)
    normed = build.in_place(current)
    build.finish(normed, embd, vocab)
    build.graph.expand(_output(build.made(sequences * width * F32, normed)))
    kept = 2 * sequences * width * F32  # a hidden row of each output, of target and drafter
    return DrafterBytes(_weights(drafter), 0, _total(build), sequences * vocab * F32, kept)


def _head_sizes(target: Header, context: ContextShape) -> DrafterBytes:
    """A layer behind the target's last, with a cache of its own (GUIDE 2.3)."""
    slots, layer = num_slots(target, context), num_layers(target) - num_head_layers(target)
    own = _draft_context(context, slots)
    build = GraphBuilder(target, _draft_shape(own, own.ubatch))
    embd = number(target, "embedding_length")
    hidden = build.in_place(build.input("hidden", embd * build.shape.rows * F32))
    token = build.in_place(build.rows(embd, build.input("tokens", build.shape.rows * F32)))
    build.graph.expand(hidden)
    current = build.rows(embd, build.rows(2 * embd, token, hidden))
    current = add_layer(build, layer, layer_weights(target).get(layer, {}), current)
    normed = _output(build.in_place(current))
    build.finish(build.outputs_of(normed), embd, vocabulary_size(target))
    of_head = (t.size_bytes for t in target.tensors if layer_number(t) >= layer)
    cache, kept = layer_bytes(target, layer, own), (own.ubatch + context.ubatch) * embd * F32
    output = slots * vocabulary_size(target) * F32
    return DrafterBytes({0: sum(of_head)}, cache, _total(build), output, kept)


def _eagle_sizes(drafter: Header, target: Header, context: ContextShape) -> DrafterBytes:
    """A layer that reads inputs of the target's layers; all rows have logits (GUIDE 2.4)."""
    slots, embd = num_slots(target, context), number(drafter, "embedding_length")
    own = _draft_context(context, slots)
    vocab = vocabulary_size(drafter) or vocabulary_size(target)
    build = GraphBuilder(drafter, _draft_shape(own, own.ubatch))
    hidden = build.input("hidden", embd * build.shape.rows * F32)
    token = build.in_place(build.rows(embd, build.input("tokens", build.shape.rows * F32)))
    both = build.rows(2 * embd, token, build.in_place(hidden))
    blocks = layer_weights(drafter).get(0, {})
    current = _output(add_layer(build, 0, blocks, hidden, mixed_from=both))
    build.finish(build.in_place(current), embd, vocab)
    tapped = TAPPED_LAYERS * context.ubatch * number(target, "embedding_length") * F32
    kept = own.ubatch * embd * F32 + tapped
    cache = layer_bytes(drafter, 0, own)
    return DrafterBytes(_weights(drafter), cache, _total(build), slots * vocab * F32, kept)


def _model_sizes(drafter: Header, target: Header, context: ContextShape) -> DrafterBytes:
    """An ordinary model with a cache of its own (GUIDE 2.6)."""
    slots = num_slots(target, context)
    own = replace(_draft_context(context, slots), outputs=0)
    own = replace(own, sequences=slots + released_sequences(drafter, slots))
    compute = sum(compute_by_device(drafter, own, Placement()).values())
    row = vocabulary_size(drafter) * F32
    growth = (num_outputs(drafter, own) - own.sequences) * row
    output = own.sequences * row
    return DrafterBytes(_weights(drafter), cache_bytes(drafter, own), compute, output, growth)


def _draft_context(context: ContextShape, slots: int) -> ContextShape:
    """A sequence and an output for each slot, and the rows of all drafts."""
    rows = max(context.ubatch, slots * DRAFTED_ROWS)
    return replace(context, sequences=slots, slots=slots, outputs=slots, ubatch=rows, snapshots=0)


def _draft_shape(context: ContextShape, rows: int) -> GraphShape:
    sequences = context.sequences
    return GraphShape(
        -(-min(rows, context.cells) // sequences) * sequences,
        sequences,
        sequences,
        padded_cells(context.cells),
        0,
        is_flash=context.has_flash,
        is_quantised=context.kv_type.startswith("q"),
    )


def _output(tensor: GraphTensor) -> GraphTensor:
    tensor.is_output = True
    return tensor


def _total(build: GraphBuilder) -> int:
    return sum(build.graph.buffer_bytes().values())


def _weights(header: Header) -> Mapping[int, int]:
    return weights_by_device(header, Placement(num_layers(header) + 1))
