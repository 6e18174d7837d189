"""How many bytes does a drafter take, beside its target? All of it lies on one device.

The contexts are those that the runner makes (daemon/runner/llama/draft_contexts.py, GUIDE 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .compute_buffer import add_layer, compute_by_device, layer_weights
from .gguf import Header
from .graph_buffer import HOST, GraphTensor
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
    """What a drafter takes, on the host and on the device that has it. The output buffers lie on
    the host."""

    device: int
    weights: Mapping[int, int]
    cache: int
    compute: Mapping[int, int]
    output: int
    growth: int = 0  # by which the drafter makes output buffers grow in use, its target's too

    def on(self, device: int) -> int:
        """What lies on this device after the load."""
        found = self.weights.get(device, 0) + self.compute.get(device, 0)
        cache = self.cache if device == self.device else 0
        return found + cache + (self.output if device == HOST else 0)


@dataclass(frozen=True, slots=True)
class DrafterPlace:
    """What a drafter is loaded beside."""

    target: Header
    context: ContextShape  # of the target
    device: int = HOST


def drafter_sizes(drafter: Header | None, place: DrafterPlace) -> DrafterBytes:
    """The sizes of a drafter, or without one of the target's own NextN head."""
    if drafter is None:
        return _head_sizes(place)
    if drafter.architecture == ASSISTANT:
        return _assistant_sizes(drafter, place)
    if drafter.architecture == EAGLE:
        return _eagle_sizes(drafter, place)
    return _model_sizes(drafter, place)


def _assistant_sizes(drafter: Header, place: DrafterPlace) -> DrafterBytes:
    """It attends to its target's cache, and has none (GUIDE 2.1)."""
    target, context = place.target, place.context
    sequences = context.sequences
    rows = -(-max(sequences, ASSISTANT_ROWS) // sequences) * sequences
    shape = replace(_draft_shape(context, rows), window_cells=window_cells(target, context))
    build = GraphBuilder(drafter, shape, device=place.device)
    width = number(drafter, "embedding_length_out")
    embd, vocab = number(drafter, "embedding_length"), vocabulary_size(drafter)
    hidden = build.input("hidden", rows * width * F32)
    token = build.in_place(build.looked_up(width))
    current = build.rows(embd, build.rows(2 * width, token, hidden))
    blocks, layers = layer_weights(drafter), num_layers(drafter)
    for layer in range(layers):
        is_cut = layer == layers - 1
        current = add_layer(build, layer, blocks.get(layer, {}), current, is_cut=is_cut)
    normed = build.in_place(current)
    build.finish(normed, embd, vocab)
    build.graph.expand(_output(build.made(sequences * width * F32, normed)))
    kept = 2 * sequences * width * F32  # a hidden row of each output, of target and drafter
    weights, compute = _weights(drafter, place), build.graph.buffer_bytes()
    return DrafterBytes(place.device, weights, 0, compute, sequences * vocab * F32, kept)


def _head_sizes(place: DrafterPlace) -> DrafterBytes:
    """A layer behind the target's last, with a cache of its own (GUIDE 2.3)."""
    target, context = place.target, place.context
    slots, layer = num_slots(target, context), num_layers(target) - num_head_layers(target)
    own = _draft_context(context, slots)
    build = GraphBuilder(target, _draft_shape(own, own.ubatch), device=place.device)
    embd = number(target, "embedding_length")
    hidden = build.in_place(build.input("hidden", embd * build.shape.rows * F32))
    token = build.in_place(build.looked_up(embd))
    build.graph.expand(hidden)
    current = build.rows(embd, build.rows(2 * embd, token, hidden))
    current = add_layer(build, layer, layer_weights(target).get(layer, {}), current)
    normed = _output(build.in_place(current))
    build.finish(build.outputs_of(normed), embd, vocabulary_size(target))
    of_head = (t.size_bytes for t in target.tensors if layer_number(t) >= layer)
    cache, kept = layer_bytes(target, layer, own), (own.ubatch + context.ubatch) * embd * F32
    output = slots * vocabulary_size(target) * F32
    weights, compute = {place.device: sum(of_head)}, build.graph.buffer_bytes()
    return DrafterBytes(place.device, weights, cache, compute, output, kept)


def _eagle_sizes(drafter: Header, place: DrafterPlace) -> DrafterBytes:
    """A layer that reads inputs of the target's layers; all rows have logits (GUIDE 2.4)."""
    target, context = place.target, place.context
    slots, embd = num_slots(target, context), number(drafter, "embedding_length")
    own = _draft_context(context, slots)
    vocab = vocabulary_size(drafter) or vocabulary_size(target)
    build = GraphBuilder(drafter, _draft_shape(own, own.ubatch), device=place.device)
    hidden = build.input("hidden", embd * build.shape.rows * F32)
    token = build.in_place(build.looked_up(embd))
    both = build.rows(2 * embd, token, build.in_place(hidden))
    blocks = layer_weights(drafter).get(0, {})
    current = _output(add_layer(build, 0, blocks, hidden, mixed_from=both))
    build.finish(build.in_place(current), embd, vocab)
    tapped = TAPPED_LAYERS * context.ubatch * number(target, "embedding_length") * F32
    kept = own.ubatch * embd * F32 + tapped
    weights, cache = _weights(drafter, place), layer_bytes(drafter, 0, own)
    compute = build.graph.buffer_bytes()
    return DrafterBytes(place.device, weights, cache, compute, slots * vocab * F32, kept)


def _model_sizes(drafter: Header, place: DrafterPlace) -> DrafterBytes:
    """An ordinary model with a cache of its own (GUIDE 2.6)."""
    slots = num_slots(place.target, place.context)
    own = replace(_draft_context(place.context, slots), outputs=0)
    own = replace(own, sequences=slots + released_sequences(drafter, slots))
    placed = _placement(drafter, place)
    compute = _moved(compute_by_device(drafter, own, placed), place)
    row = vocabulary_size(drafter) * F32
    growth = (num_outputs(drafter, own) - own.sequences) * row
    output = own.sequences * row
    weights = _weights(drafter, place)
    return DrafterBytes(place.device, weights, cache_bytes(drafter, own), compute, output, growth)


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


def _weights(drafter: Header, place: DrafterPlace) -> Mapping[int, int]:
    return _moved(weights_by_device(drafter, _placement(drafter, place)), place)


def _placement(drafter: Header, place: DrafterPlace) -> Placement:
    """All of it on one device."""
    return Placement(0 if place.device == HOST else num_layers(drafter) + 1)


def _moved(sizes: Mapping[int, int], place: DrafterPlace) -> Mapping[int, int]:
    """Sizes on the host and the first GPU, the latter on the drafter's device."""
    return {HOST if device == HOST else place.device: size for device, size in sizes.items()}
