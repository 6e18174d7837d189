"""How many cells of the KV cache are in use, when sequences share them?

llama.cpp does not report it, so every cached token gets the number of a cell here, and a copied
prefix has the numbers of its source. As many are in use as llama.cpp has cells in use.
"""

from __future__ import annotations

from array import array

import numpy as np


class CellAllocator:
    """Numbers of cells, each with a count of the sequences that refer to it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._references = array("i", bytes(4 * count))
        self._view = np.frombuffer(self._references, np.int32)  # the same counts, for long runs
        self._free = list(range(count))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Unused cells, with one reference each. The caller has checked `num_free`."""
        assert count <= self.num_free, (count, self.num_free)
        cells = self._free[self.num_free - count :]
        del self._free[self.num_free - count :]
        for cell in cells:  # usually one: for so few, numpy's indexing is slower
            self._references[cell] = 1
        return cells

    def share(self, cells: array[int]) -> None:
        """Add a reference to each of these cells."""
        self._view[np.asarray(cells, np.int32)] += 1

    def free(self, cells: array[int]) -> None:
        """Remove a reference from each of these cells; those without any are unused again."""
        released = np.asarray(cells, np.int32)
        self._view[released] -= 1
        self._free += released[self._view[released] == 0].tolist()
