"""How does llama.cpp see a batch: a llama_batch over its arrays (GUIDE 6.5)."""

from __future__ import annotations

import ctypes

import numpy as np
from llama_cpp import llama_cpp as lib

from ..batch import Batch
from .bindings import pointer

INT32_P = ctypes.POINTER(ctypes.c_int32)


class NativeBatch:
    """The structure, and the two arrays that are the same for every decode."""

    def __init__(self, batch: Batch) -> None:
        num_seqs = np.ones(batch.capacity, np.int32)  # each row belongs to one sequence
        seq_ids = (batch.seqs.ctypes.data + 4 * np.arange(batch.capacity)).astype(np.uintp)
        self._referenced = num_seqs, seq_ids
        self.struct = lib.llama_batch()
        self.struct.token = pointer(batch.tokens, INT32_P)
        self.struct.pos = pointer(batch.positions, INT32_P)
        self.struct.n_seq_id = pointer(num_seqs, INT32_P)
        self.struct.seq_id = pointer(seq_ids, ctypes.POINTER(INT32_P))
        self.struct.logits = pointer(batch.is_output, ctypes.POINTER(ctypes.c_int8))
        if batch.hidden.size:
            self.struct.embd = pointer(batch.hidden, ctypes.POINTER(ctypes.c_float))


def native_batch(batch: Batch) -> lib.llama_batch:
    """The structure of a batch with its present number of rows, made at the first call."""
    native = batch.native
    if not isinstance(native, NativeBatch):
        native = batch.native = NativeBatch(batch)
    native.struct.n_tokens = batch.count
    return native.struct
