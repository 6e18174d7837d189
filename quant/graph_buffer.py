"""How large are the buffers that ggml allocates for a graph? Its allocator, followed with sizes.

The rules are those of ggml-alloc.c: inputs come first; a tensor takes the place of a parent that
nobody else reads, if its operation can work in place and reads no view of it, or else the smallest
hole that is large enough, or else the end; what has no readers left is freed, unless it is an
output. Every device has a buffer, and a copy of what it reads from another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ALIGNMENT: Final = 32  # bytes, of a CPU's buffers; 128 in CUDA's, which differs by kilobytes
HOST: Final = -1  # GPUs are numbered from 0


@dataclass(slots=True, eq=False)
class GraphTensor:
    """A tensor that a graph computes; views count as the tensor that they view."""

    size_bytes: int  # 0 for what is written into a cache
    parents: tuple[GraphTensor, ...] = ()
    is_in_place: bool = False  # whether its operation can overwrite a parent of the same size
    is_output: bool = False  # the result of the graph, never freed
    device: int = HOST


@dataclass(slots=True)
class Graph:
    """Tensors in the order in which ggml computes them."""

    num_copies: int = 1  # of inputs, and of what one device reads from another
    leaves: list[GraphTensor] = field(default_factory=list)
    nodes: list[GraphTensor] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    _copies: dict[tuple[int, int], GraphTensor] = field(default_factory=dict)
    _start: int = 0  # where the tensors of the present device begin

    def expand(self, tensor: GraphTensor) -> None:
        """Add a tensor after all that it is computed from, the first parent first."""
        if id(tensor) in self._seen:
            return
        self._seen.add(id(tensor))
        for parent in tensor.parents:
            self.expand(parent)
        if not tensor.parents:
            tensor.size_bytes *= self.num_copies
            self.leaves.append(tensor)
            return
        if self.nodes and self.nodes[-1].device != tensor.device:
            self._start = len(self.nodes)
        tensor.parents = tuple(self._on_device(parent, tensor.device) for parent in tensor.parents)
        self.nodes.append(tensor)

    def _on_device(self, tensor: GraphTensor, device: int) -> GraphTensor:
        """A tensor, or its copy, which is made before all that follows on this device."""
        if tensor.device == device:
            return tensor
        key = id(tensor), device
        if key not in self._copies:
            size_bytes = tensor.size_bytes * (self.num_copies if tensor.parents else 1)
            copy = self._copies[key] = GraphTensor(size_bytes, (tensor,), device=device)
            self.nodes.insert(self._start, copy)
            self._start += 1
        return self._copies[key]

    def buffer_bytes(self) -> dict[int, int]:
        """The size of the buffer of each device that has one."""
        readers: dict[int, int] = {}
        for node in self.nodes:
            for parent in node.parents:
                readers[id(parent)] = readers.get(id(parent), 0) + 1
        tensors = (*self.leaves, *self.nodes)
        buffers = {tensor.device: _GraphAllocator(readers) for tensor in tensors}
        for tensor in tensors:
            buffers[tensor.device].place(tensor)
            for parent in tensor.parents:
                buffers[parent.device].release(parent)
        return {device: buffer.size_bytes for device, buffer in buffers.items()}


@dataclass(slots=True)
class _GraphAllocator:
    readers: dict[int, int]  # by tensor: how many have still to read it
    size_bytes: int = 0
    _places: dict[int, int] = field(default_factory=dict)  # offsets of what is allocated
    _holes: list[tuple[int, int]] = field(default_factory=list)  # start and end, sorted
    _end: int = 0

    def place(self, tensor: GraphTensor) -> None:
        if tensor.is_in_place and (parent := self._reusable(tensor)) is not None:
            self._places[id(tensor)] = self._places.pop(id(parent))
        elif tensor.size_bytes:
            self._places[id(tensor)] = self._take(_aligned(tensor.size_bytes))

    def release(self, tensor: GraphTensor) -> None:
        """One reader less."""
        self.readers[id(tensor)] -= 1
        if self.readers[id(tensor)] or tensor.is_output:
            return
        start = self._places.pop(id(tensor), None)
        if start is not None:
            self._free(start, start + _aligned(tensor.size_bytes))

    def _reusable(self, tensor: GraphTensor) -> GraphTensor | None:
        for parent in tensor.parents:
            is_alone = self.readers[id(parent)] == 1 and not parent.is_output
            is_alike = parent.size_bytes == tensor.size_bytes
            if is_alone and is_alike and id(parent) in self._places:
                return parent
        return None

    def _take(self, size: int) -> int:
        fitting = [hole for hole in self._holes if hole[1] - hole[0] >= size]
        if not fitting:
            start, self._end = self._end, self._end + size
            self.size_bytes = max(self.size_bytes, self._end)
            return start
        best = min(reversed(fitting), key=lambda hole: hole[1] - hole[0])
        self._holes.remove(best)
        if best[1] - best[0] > size:
            self._holes.append((best[0] + size, best[1]))
            self._holes.sort()
        return best[0]

    def _free(self, start: int, end: int) -> None:
        merged = list[tuple[int, int]]()
        for hole in self._holes:
            if hole[1] == start:
                start = hole[0]
            elif hole[0] == end:
                end = hole[1]
            else:
                merged.append(hole)
        if end == self._end:
            self._end = start
        else:
            merged.append((start, end))
        self._holes = sorted(merged)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
