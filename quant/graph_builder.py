"""How is a model's graph put together: rows of f32, and the inputs that all layers share?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .gguf import Header
from .graph_buffer import HOST, Graph, GraphTensor

F32: Final = 4  # bytes
F16: Final = 2  # bytes
LayerWeights = Mapping[str, tuple[int, ...]]  # shapes by name, such as "attn_q.weight"


@dataclass(frozen=True, slots=True)
class GraphShape:
    """How many rows a decode has, and what they attend to."""

    rows: int
    outputs: int
    sequences: int
    full_cells: int
    window_cells: int
    snapshots: int = 0
    is_flash: bool = True
    is_quantised: bool = False  # whether the KV cache is


@dataclass(slots=True)
class GraphBuilder:
    """A graph in the making; what is added lies on `device`."""

    header: Header
    shape: GraphShape
    graph: Graph = field(default_factory=Graph)
    device: int = HOST
    _inputs: dict[str, GraphTensor] = field(default_factory=dict)

    def rows(self, width: int, *parents: GraphTensor) -> GraphTensor:
        """So many elements for each row, such as a product with a matrix."""
        return self.made(width * self.shape.rows * F32, *parents)

    def made(self, size_bytes: int, *parents: GraphTensor) -> GraphTensor:
        """A tensor of its own."""
        return GraphTensor(size_bytes, parents, device=self.device)

    def in_place(self, tensor: GraphTensor, *others: GraphTensor) -> GraphTensor:
        """As large as its first parent, and in the place of a parent that nobody else reads: norm,
        bias, RoPE, activation, sum, product by elements."""
        parents = (tensor, *others)
        return GraphTensor(tensor.size_bytes, parents, is_in_place=True, device=self.device)

    def store(self, *parents: GraphTensor) -> None:
        """What is written into a cache, before anything that follows."""
        self.graph.expand(self.made(0, *parents))

    def input(self, name: str, size_bytes: int) -> GraphTensor:
        """What llama.cpp fills on the host before the decode."""
        if name not in self._inputs:
            self._inputs[name] = GraphTensor(size_bytes)
        return self._inputs[name]

    def looked_up(self, width: int) -> GraphTensor:
        """The embeddings of the tokens, on the host, where their matrix lies."""
        tokens = self.input("tokens", self.shape.rows * F32)
        return GraphTensor(width * self.shape.rows * F32, (tokens,))

    def positions(self) -> GraphTensor:
        """M-RoPE has four numbers for each row, others have one."""
        is_multiple = f"{self.header.architecture}.rope.dimension_sections" in self.header.values
        return self.input("positions", (4 if is_multiple else 1) * self.shape.rows * F32)

    def mask(self, *, is_window: bool) -> GraphTensor:
        """Which cells each row attends to: f16, or f32 without flash attention."""
        cells = self.shape.window_cells if is_window else self.shape.full_cells
        element = F16 if self.shape.is_flash else F32
        return self.input(f"mask {is_window}", cells * self.shape.rows * element)

    def outputs_of(self, tensor: GraphTensor) -> GraphTensor:
        """The rows that become logits."""
        ids = self.input("output ids", self.shape.outputs * F32)
        return self.made(tensor.size_bytes // self.shape.rows * self.shape.outputs, tensor, ids)

    def finish(self, tensor: GraphTensor, width: int, vocab: int) -> None:
        """The logits of all rows of a tensor so wide."""
        tensor.is_output = True
        logits = self.made(tensor.size_bytes // max(width, 1) * vocab, tensor)
        logits.is_output = True
        self.graph.expand(logits)
