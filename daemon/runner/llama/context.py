"""How do rows become logits or vectors: the llama.cpp contexts for text and for embeddings.

A GGML_ASSERT ends the process, so its condition is checked here, in Python, before the call
(GUIDE 0 and 10.1).
"""

from __future__ import annotations

import ctypes

import numpy as np
from llama_cpp import llama_cpp as lib
from llama_cpp import llama_cpp_ext as ext
from numpy.typing import NDArray

from ...errors import DecodeFailed, LoadFailed
from ...protocol import MAX_DRAFTS, Load
from ..batch import Batch, Hidden
from .bindings import arm_abort, logits_getter, pointer
from .interface import ABORTED, DECODED, NO_CELLS, RANK, State
from .model import LlamaModel
from .native_batch import native_batch
from .page_size import normal_pages

KV_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}
UINT8_P = ctypes.POINTER(ctypes.c_uint8)
PARTIAL_ONLY = lib.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
# Sequence ids for released prefixes, at most. They cost nothing (GUIDE 9.1); the bound keeps the
# search for a prefix short.
MAX_RELEASED = 16
# Draft tokens of a recurrent model. Each needs the memory of one more state per sequence.
RECURRENT_DRAFTS = 4
# Output rows of one decode. Each needs a float32 per token of the vocabulary.
MAX_OUTPUTS = 64


class LlamaContext:
    """A llama.cpp context: the parameters that all uses share, and the decode."""

    def __init__(self, model: LlamaModel, load: Load, *, seqs: int, outputs: int, **more: object):
        params = lib.llama_context_default_params()
        params.n_ctx = load.cells
        params.n_batch = params.n_ubatch = load.batch
        params.n_seq_max, params.n_outputs_max = seqs, outputs
        params.n_threads = params.n_threads_batch = load.threads  # GUIDE 1.4
        params.type_k = params.type_v = KV_TYPES[load.kv_type]
        # With f32, flash attention would round the cache to f16.
        if load.kv_type == "f32" or load.flash_attention is False:
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        # Target and drafter must agree, and each resolves AUTO alone.
        elif load.draft or load.flash_attention:
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.kv_unified = True
        params.swa_full = False
        params.no_perf = True
        for name, value in more.items():
            setattr(params, name, value)
        with normal_pages():
            self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LoadFailed(
                f"unable to create a context of {load.cells} tokens for {load.model}; "
                "a smaller num_ctx may fit"
            )
        self.model = model
        self._memory = lib.llama_get_memory(self.handle)
        self._max_outputs = outputs
        self._abort = arm_abort(self.handle)

    def close(self) -> None:
        lib.llama_free(self.handle)

    def decode(self, batch: Batch) -> int:
        """DECODED, NO_CELLS or ABORTED; anything else raises DecodeFailed.

        Waits for the end: on a GPU llama_decode returns before that (GUIDE 6.6), and the cost of a
        step could not be measured.
        """
        assert 0 < batch.count <= batch.capacity, batch.count
        assert len(batch.outputs) <= self._max_outputs, len(batch.outputs)
        rc = self._process(batch)
        if rc not in (DECODED, NO_CELLS, ABORTED):
            raise DecodeFailed(f"llama_decode returned {rc} for {batch.count} rows")
        lib.llama_synchronize(self.handle)
        return rc

    def _process(self, batch: Batch) -> int:
        return int(lib.llama_decode(self.handle, native_batch(batch)))

    def abort(self) -> None:
        """Make the running decode return ABORTED; callable from another thread (GUIDE 10.3)."""
        self._abort[0] = b"\x01"

    def set_threads(self, threads: int) -> None:
        """CPU threads of the next decodes, of one row or many (GUIDE 1.4)."""
        lib.llama_set_n_threads(self.handle, threads, threads)

    def disarm(self) -> None:
        """Take an abort back."""
        self._abort[0] = b"\x00"


class LogitsContext(LlamaContext):
    """A context whose output rows have logits."""

    def __init__(self, model: LlamaModel, load: Load, *, seqs: int, outputs: int, **more: object):
        super().__init__(model, load, seqs=seqs, outputs=outputs, **more)
        self.max_outputs = outputs
        self._logits_of = logits_getter()
        self._logits = np.empty((0, model.num_tokens), np.float32)  # one row per output
        self._address = 0  # of llama.cpp's buffer that `_logits` views
        self._is_read = False
        self._outputs: list[int] = []  # their rows in the last batch
        self.keep_hidden(False)

    def keep_hidden(self, is_kept: bool, *, of_all: bool = False) -> None:
        """Whether `hidden` has all rows or only outputs. In the second case llama.cpp skips the
        last layer for the other rows of a prompt (GUIDE 0.7 and 2.2)."""
        ext.llama_set_embeddings_nextn(self.handle, is_kept, not of_all)

    def hidden(self, row: int) -> Hidden:
        """A copy of a hidden row of the last decode; the row must have one (`keep_hidden`)."""
        pointer = ext.llama_get_embeddings_nextn_ith(self.handle, row)
        assert pointer, f"row {row} has no hidden row"
        return np.ctypeslib.as_array(pointer, (self.model.hidden_width,)).copy()

    def decode(self, batch: Batch) -> int:
        self._outputs, self._is_read = batch.outputs, False
        return super().decode(batch)

    def logits(self, row: int) -> NDArray[np.float32]:
        """A view of one output row, valid until the next decode (GUIDE 0.14)."""
        if not self._is_read:
            self._read()
        found: NDArray[np.float32] = self._logits[self._outputs.index(row)]
        return found

    def _read(self) -> None:
        """View the buffer of all outputs, which llama.cpp seldom moves."""
        address = self._logits_of(self.handle)
        assert address, "the last decode had no outputs"
        if address != self._address:
            shape = self.max_outputs, self.model.num_tokens
            data = (ctypes.c_float * (shape[0] * shape[1])).from_address(address)
            self._logits = np.frombuffer(memoryview(data), np.float32).reshape(shape)
            self._address = address
        self._is_read = True


class KVContext(LogitsContext):
    """A context with a KV cache of its own."""

    def clear(self, seq: int) -> None:
        """Empty a sequence."""
        lib.llama_memory_seq_rm(self._memory, seq, -1, -1)

    def copy(self, source: int, target: int, count: int) -> None:
        """Let an empty sequence share the first `count` tokens of another (GUIDE 5.1)."""
        lib.llama_memory_seq_cp(self._memory, source, target, 0, count)

    def truncate(self, seq: int, count: int) -> None:
        """Remove all but the first `count` tokens. Raises DecodeFailed (GUIDE 4.4)."""
        if not lib.llama_memory_seq_rm(self._memory, seq, count, -1):
            raise DecodeFailed(f"sequence {seq} cannot be truncated to {count} tokens")

    def first_position(self, seq: int) -> int:
        """The oldest position that every layer still has; -1 for an empty sequence."""
        return int(lib.llama_memory_seq_pos_min(self._memory, seq))

    def save(self, seq: int, *, whole: bool = False) -> State:
        """The part that `truncate` cannot restore (window or recurrent state), or all."""
        flags = 0 if whole else PARTIAL_ONLY  # GUIDE 1.10
        size = lib.llama_state_seq_get_size_ext(self.handle, seq, flags)
        state = np.empty(size, np.uint8)
        target = pointer(state, UINT8_P)
        return state[: lib.llama_state_seq_get_data_ext(self.handle, target, size, seq, flags)]

    def restore(self, seq: int, state: State, *, whole: bool = False) -> None:
        """Load a saved state into any sequence. Raises DecodeFailed if there are no cells."""
        flags = 0 if whole else PARTIAL_ONLY
        source = pointer(state, UINT8_P)
        args = (self.handle, source, len(state), seq, flags)
        if lib.llama_state_seq_set_data_ext(*args) != len(state):
            raise DecodeFailed(f"the state of sequence {seq} cannot be restored")

    def allocate(self) -> None:
        """Decode a row of an empty sequence: buffers that adapters or layer inputs have changed are
        made anew now, and not within the first request (GUIDE 10.4). Raises LoadFailed."""
        batch = Batch(1)
        batch.add(0, 0, [0], outputs=1)
        try:
            self.decode(batch)
        except DecodeFailed as error:
            raise LoadFailed(f"there is no memory to decode with: {error}") from error
        self.clear(0)

    def num_cached(self, seq: int) -> int:
        """Evaluated tokens of a sequence; to be read again after an abort (GUIDE 10.2)."""
        return int(lib.llama_memory_seq_pos_max(self._memory, seq)) + 1


class TextContext(KVContext):
    """The context of the engine, with the KV cache of all slots."""

    def __init__(self, model: LlamaModel, load: Load) -> None:
        self.num_seqs = num_seqs(model, load)
        outputs = max(self.num_seqs, min(load.slots * (1 + MAX_DRAFTS), MAX_OUTPUTS, load.batch))
        states = min(RECURRENT_DRAFTS, load.batch - 2) if load.speculation != 0 else 0
        # GUIDE 0.2
        super().__init__(model, load, seqs=self.num_seqs, outputs=outputs, n_rs_seq=states)
        self.max_drafts = MAX_DRAFTS
        if model.is_recurrent:  # one snapshot per draft token; some architectures have none
            self.max_drafts = int(lib.llama_n_rs_seq(self.handle))


class EmbeddingContext(LlamaContext):
    """A context that makes one pooled vector of each sequence (GUIDE 1.13)."""

    def __init__(self, model: LlamaModel, load: Load) -> None:
        if model.pooling == RANK:
            raise LoadFailed(f"{load.model} is a reranker: it computes scores, not embeddings")
        outputs = max(load.batch, load.slots)  # every row is an output
        pooled = {"embeddings": True, "pooling_type": model.pooling}
        super().__init__(model, load, seqs=load.slots, outputs=outputs, **pooled)
        self.width = int(lib.llama_model_n_embd_out(model.handle))
        self.can_split = bool(self._memory) and bool(lib.llama_get_causal_attn(self.handle))

    def vector(self, seq: int) -> NDArray[np.float32]:
        """A copy of the vector of a sequence of the last decode."""
        pointer = lib.llama_get_embeddings_seq(self.handle, seq)
        assert pointer, f"sequence {seq} was not in the batch"
        return np.ctypeslib.as_array(pointer, (self.width,)).copy()

    def clear_all(self) -> None:
        """Empty all sequences; an encoder has no memory to clear (GUIDE 1.5)."""
        if self._memory:
            lib.llama_memory_clear(self._memory, False)


def num_seqs(model: LlamaModel, load: Load) -> int:
    """Sequence ids of a context: one for each slot, and some for released prefixes.

    They cost nothing with plain attention; a window or a recurrent state needs memory for each
    (GUIDE 9.1).
    """
    is_free = not (model.window or model.is_recurrent)
    return load.slots + (min(load.slots * 2, MAX_RELEASED) if is_free else -(-load.slots // 2))
