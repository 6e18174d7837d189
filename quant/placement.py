"""On which device does each tensor lie?"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from .gguf import Header, Tensor
from .graph_buffer import HOST
from .layers import num_head_layers, num_layers

EXPERTS: Final = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps")  # GUIDE 9.2
INPUTS: Final = ("token_embd", "per_layer_token_embd", "token_types", "position_embd")
OUTPUTS: Final = ("output", "output_norm", "nextn.post_projection")


@dataclass(frozen=True, slots=True)
class Placement:
    """Which part of a model lies on GPUs. The default is a machine without one."""

    gpu_layers: int = 0  # layers from the last on; the output counts as one more, and comes first
    split: tuple[float, ...] = ()  # share of these layers on each GPU, in the order of the GPUs
    host_experts: int = 0  # layers from the first on whose expert tensors stay on the host

    @property
    def num_gpus(self) -> int:
        return max(len(self.split), 1) if self.gpu_layers > 0 else 0


def device_of_layer(placement: Placement, layers: int, layer: int) -> int:
    """The number of a GPU, or HOST; the output is the layer after the last (GUIDE 9.2)."""
    start = max(layers + 1 - placement.gpu_layers, 0)
    if placement.gpu_layers <= 0 or layer < start:
        return HOST
    shares = list(accumulate(placement.split or (1.0,)))
    position = (layer - start) / min(placement.gpu_layers, layers + 1)
    bounds = [share / shares[-1] for share in shares] if shares[-1] else [1.0]
    return min(bisect_right(bounds, position), len(bounds) - 1)


def weights_by_device(
    header: Header, placement: Placement, *, with_head: bool = True
) -> Mapping[int, int]:
    """Bytes of weights on the host and on each GPU, with or without those of a NextN head.

    Embeddings that also serve as output matrix lie on both devices.
    """
    layers = num_layers(header)
    trunk = layers if with_head else layers - num_head_layers(header)
    found = {HOST: 0}
    names = {tensor.name for tensor in header.tensors}
    for tensor in header.tensors:
        if layer_number(tensor) < trunk:
            device = _device_of(tensor, placement, layers)
            found[device] = found.get(device, 0) + tensor.size_bytes
    output = device_of_layer(placement, layers, layers)
    if output != HOST and "output.weight" not in names:
        tied = (t.size_bytes for t in header.tensors if t.name == "token_embd.weight")
        found[output] = found.get(output, 0) + sum(tied)
    return found


def largest_host_matrix(header: Header, placement: Placement) -> int:
    """Bytes of the largest matrix of a layer on the host, which a GPU copies to compute a prompt
    with it; 0 without GPUs (op_offload of llama.cpp)."""
    if not placement.num_gpus:
        return 0
    layers = num_layers(header)
    sizes = (
        tensor.size_bytes
        for tensor in header.tensors
        if tensor.name.startswith("blk.") and _device_of(tensor, placement, layers) == HOST
    )
    return max(sizes, default=0)


def _device_of(tensor: Tensor, placement: Placement, layers: int) -> int:
    name = tensor.name.rpartition(".")[0] or tensor.name
    if name in INPUTS:
        return HOST
    if name in OUTPUTS:
        return device_of_layer(placement, layers, layers)
    layer = max(layer_number(tensor), 0)
    if layer < placement.host_experts and EXPERTS.search(name):
        return HOST
    return device_of_layer(placement, layers, layer)


def layer_number(tensor: Tensor) -> int:
    """The layer that a tensor is part of; -1 for what is part of none."""
    prefix, _, rest = tensor.name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if prefix == "blk" and number.isdecimal() else -1
