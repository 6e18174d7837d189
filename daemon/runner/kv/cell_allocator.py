"""How many cells of the KV cache are taken, when sequences share them.

llama.cpp does not tell, so each cached token is given a number here, and a copied prefix has the
numbers of the original: exactly as many are taken as llama.cpp's cache has cells in use.
"""

from __future__ import annotations

from array import array

import numpy as np


class CellAllocator:
    """Numbers for cached tokens, each with a count of the sequences that hold it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = array("i", bytes(4 * count))
        self._view = np.frombuffer(self._holders, np.int32)  # the same counts, for long runs
        self._free = list(range(count))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Fresh cells for one holder. The caller has made sure that there are enough."""
        assert count <= self.num_free, (count, self.num_free)
        cells = self._free[self.num_free - count :]
        del self._free[self.num_free - count :]
        for cell in cells:  # one or a few at a time, hundreds of times a second
            self._holders[cell] = 1
        return cells

    def share(self, cells: array[int]) -> None:
        """One more holder for these cells."""
        self._view[np.asarray(cells, np.int32)] += 1

    def drop(self, cells: array[int]) -> None:
        """One holder less; the cells that nobody holds any more are free."""
        held = np.asarray(cells, np.int32)
        self._view[held] -= 1
        self._free += held[self._view[held] == 0].tolist()
