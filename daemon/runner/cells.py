"""How many cells of the KV cache are taken, when sequences share them.

llama.cpp does not tell, so each cached token is given a number here, and a copied prefix has the
numbers of the original: exactly as many are taken as llama.cpp's cache has cells in use.
"""

from __future__ import annotations

from array import array

import numpy as np


class CellPool:
    """Numbers for cached tokens, each with a count of the sequences that hold it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = np.zeros(count, np.int32)
        self._free = list(range(count))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> array[int]:
        """Fresh cells for one holder. The caller has made sure that there are enough."""
        assert count <= self.num_free, (count, self.num_free)
        cells = array("i", self._free[len(self._free) - count :])
        del self._free[len(self._free) - count :]
        self._holders[cells] = 1
        return cells

    def share(self, cells: array[int]) -> None:
        """One more holder for these cells."""
        self._holders[cells] += 1

    def drop(self, cells: array[int]) -> None:
        """One holder less; the cells that nobody holds any more are free."""
        held = np.asarray(cells, np.int32)
        self._holders[held] -= 1
        self._free += held[self._holders[held] == 0].tolist()
