"""What one decode takes in: rows of tokens, each at a position of a sequence."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from .bindings import pointer

Hidden = NDArray[np.float32]  # what a model's last layer made of one token


class Batch:
    """The rows of one decode: arrays behind a persistent llama_batch (GUIDE 6.5)."""

    def __init__(self, capacity: int, *, hidden_width: int = 0) -> None:
        """With a `hidden_width` every row has a hidden row of that many floats beside its token."""
        self.capacity = capacity
        self._hidden = np.zeros((capacity, hidden_width), np.float32)
        token, pos, seq = (np.zeros(capacity, np.int32) for _ in range(3))
        num_seq, output = np.ones(capacity, np.int32), np.zeros(capacity, np.int8)
        seq_ptr = (seq.ctypes.data + 4 * np.arange(capacity)).astype(np.uintp)
        # Single items are set through views: after a decode the processor has forgotten the code of
        # numpy's slices, which then takes ten times as long.
        self._token, self._pos, self._seq = token.data, pos.data, seq.data
        self._output = output.data
        self._kept = num_seq, seq_ptr
        self.handle = lib.llama_batch()
        int32_p = ctypes.POINTER(ctypes.c_int32)
        self.handle.token = pointer(token, int32_p)
        self.handle.pos = pointer(pos, int32_p)
        self.handle.n_seq_id = pointer(num_seq, int32_p)
        self.handle.seq_id = pointer(seq_ptr, ctypes.POINTER(int32_p))
        self.handle.logits = pointer(output, ctypes.POINTER(ctypes.c_int8))
        if hidden_width:
            self.handle.embd = pointer(self._hidden, ctypes.POINTER(ctypes.c_float))
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.outputs: list[int] = []  # rows with logits

    def add(self, seq: int, position: int, tokens: Sequence[int], *, outputs: int) -> int:
        """Append a run of tokens of one sequence, the last `outputs` of them with logits; returns
        the row of the first of these."""
        start = self.count
        end = self.count = self.handle.n_tokens = start + len(tokens)
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
        """The same for tokens that come with the hidden rows from which they were drawn."""
        self._hidden[self.count : self.count + len(tokens)] = hidden
        return self.add(seq, position, tokens, outputs=outputs)

    def output_all(self) -> None:
        """Make every row an output, as pooling asks for (GUIDE 1.13)."""
        for row in range(self.count):
            self._output[row] = 1
        self.outputs = list(range(self.count))
