"""Which rows does one decode evaluate: tokens, each at a position of a sequence?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hidden = NDArray[np.float32]  # the output of a model's last layer for one token


class Batch:
    """The rows of one decode, in arrays that are made once and filled again for every step.

    A context builds llama.cpp's own structure over these arrays at its first decode and keeps it
    in `native` (GUIDE 6.5).
    """

    def __init__(self, capacity: int, *, hidden_width: int = 0) -> None:
        """With a `hidden_width` every row has a hidden row of that many floats beside its token."""
        self.capacity = capacity
        self.hidden = np.zeros((capacity, hidden_width), np.float32)
        self.tokens, self.positions, self.seqs = (np.zeros(capacity, np.int32) for _ in range(3))
        self.is_output = np.zeros(capacity, np.int8)
        self.native: object = None
        # Items are set through memoryviews: a decode evicts the code of numpy's item assignment
        # from the CPU's cache, and the first assignments after it take ten times as long.
        self._token, self._pos, self._seq = self.tokens.data, self.positions.data, self.seqs.data
        self._output = self.is_output.data
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.outputs: list[int] = []  # rows with logits

    def add(self, seq: int, position: int, tokens: Sequence[int], *, outputs: int) -> int:
        """Append a run of tokens of one sequence, the last `outputs` of them with logits; returns
        the row of the first of these."""
        start = self.count
        end = self.count = start + len(tokens)
        first = end - outputs
        for row, token in enumerate(tokens, start):
            self._token[row] = token
            self._pos[row] = position + row - start
            self._seq[row] = seq
            self._output[row] = row >= first
        self.outputs.extend(range(first, end))
        return first

    def add_hidden(
        self,
        seq: int,
        position: int,
        tokens: Sequence[int],
        hidden: Sequence[Hidden],
        *,
        outputs: int,
    ) -> int:
        """The same for tokens with the hidden rows from which they were sampled."""
        self.hidden[self.count : self.count + len(tokens)] = hidden
        return self.add(seq, position, tokens, outputs=outputs)

    def output_all(self) -> None:
        """Make every row an output, as pooling requires (GUIDE 1.13)."""
        self.is_output[: self.count] = 1
        self.outputs = list(range(self.count))
