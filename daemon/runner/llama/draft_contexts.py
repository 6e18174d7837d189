"""How do drafters decode that read the hidden rows or the KV cache of their target?"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from ...errors import DecodeFailed
from ...protocol import MAX_MODEL_DRAFTS, Load
from ..batch import Batch, Hidden
from .bindings import pointer, private
from .context import KVContext, LogitsContext, TextContext
from .model import LlamaModel
from .native_batch import native_batch

CONTEXT_TYPE_MTP = lib.LLAMA_CONTEXT_TYPE_MTP
PROCESS_DECODE = lib.LLAMA_PROCESS_TYPE_DECODE
FLOAT_P = ctypes.POINTER(ctypes.c_float)
# Rows of one encoder call of an EAGLE-3 head. llama.cpp reserves logits for each, too.
FUSED_ROWS = 32


class NextnContext(KVContext):
    """The context of an MTP head in the target's own weights: a small KV cache (GUIDE 2.3)."""

    def __init__(self, target: TextContext, load: Load) -> None:
        sizes = {"seqs": load.slots, "outputs": load.slots}
        super().__init__(target.model, load, **sizes, ctx_type=CONTEXT_TYPE_MTP)
        self._target = target
        self.width = target.model.hidden_width
        self.first: Hidden | None = np.zeros(self.width, np.float32)
        self.max_unread = 1 + MAX_MODEL_DRAFTS
        self.keep_hidden(True, of_all=True)
        target.keep_hidden(True, of_all=True)

    def take(self, row: int) -> Hidden:
        """What the head needs of a row of the target's last decode."""
        return self._target.hidden(row)

    def fuse(self, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        """The rows that the head reads: those of the target as they are."""
        return taken


class EagleContext(KVContext):
    """The context of an EAGLE-3 head: an encoder that fuses the inputs of three target layers to
    one row, a decoder layer and its KV cache (GUIDE 2.4).

    Its decoder computes logits for all rows of a decode or, without outputs, for none.
    """

    def __init__(self, model: LlamaModel, target: TextContext, load: Load) -> None:
        super().__init__(model, load, seqs=load.slots, outputs=load.slots, ctx_other=target.handle)
        self._target = target
        self._layers = model.target_layers
        self.width = int(lib.llama_model_n_embd(model.handle))
        self.first: Hidden | None = None
        self.max_unread = 1
        self._features = Batch(FUSED_ROWS, hidden_width=len(self._layers) * target.model.width)
        native_batch(self._features).token = None
        self.keep_hidden(True)
        name, pointer, number = "llama_set_embeddings_layer_inp", ctypes.c_void_p, ctypes.c_uint32
        keep = private(name, f"_Z30{name}P13llama_contextjb", None, pointer, number, ctypes.c_bool)
        name = "llama_get_embeddings_layer_inp"
        self._entered = private(name, f"_Z30{name}P13llama_contextj", pointer, pointer, number)
        for layer in self._layers:
            if layer == target.model.num_layers:
                target.keep_hidden(True, of_all=True)
            else:
                keep(target.handle, layer, True)

    def take(self, row: int) -> Hidden:
        """The inputs of the three layers, concatenated."""
        return np.concatenate([self._entering(layer, row) for layer in self._layers])

    def _entering(self, layer: int, row: int) -> Hidden:
        if layer == self._target.model.num_layers:
            return self._target.hidden(row)
        width = self._target.model.width
        address = self._entered(self._target.handle, layer)
        floats = (ctypes.c_float * width).from_address(address + 4 * width * row)
        return np.ctypeslib.as_array(floats)

    def fuse(self, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        """One row of the decoder's width for each. Raises DecodeFailed."""
        fused: list[Hidden] = []
        for start in range(0, len(taken), FUSED_ROWS):
            part = taken[start : start + FUSED_ROWS]
            self._features.clear()
            position = self.num_cached(0)  # ignored by the encoder, but must be consecutive
            self._features.add_hidden(0, position, [0] * len(part), part, outputs=len(part))
            if lib.llama_encode(self.handle, native_batch(self._features)):
                raise DecodeFailed(f"llama_encode failed for {len(part)} rows")
            fused += [self.hidden(row) for row in range(len(part))]
        return fused

    def close(self) -> None:
        super().close()
        self.model.close()


class AssistantContext(LogitsContext):
    """The context of a drafter that attends to the target's KV cache and has none of its own
    (GUIDE 2.1).

    Make it before the target's first decode, which it would undo. It may only decode.
    """

    def __init__(self, model: LlamaModel, target: TextContext, load: Load) -> None:
        seqs = target.num_seqs  # as in the target, or the cells would not match
        rows = max(seqs, 32)
        sizes = {"seqs": seqs, "outputs": seqs, "n_batch": rows, "n_ubatch": rows}
        super().__init__(model, load, **sizes, ctx_other=target.handle, ctx_type=CONTEXT_TYPE_MTP)
        self.keep_hidden(True)
        target.keep_hidden(True)


class TrimmedAssistantContext(AssistantContext):
    """An assistant whose head has fewer tokens than its target (GUIDE 2.1).

    llama.cpp refuses tokens outside of a context's own vocabulary. The tokens of a draft are looked
    up in the target's embeddings, so the batch is made for the target's context, and decoded here.
    """

    def __init__(
        self, model: LlamaModel, target: TextContext, load: Load, tokens: NDArray[np.int64]
    ) -> None:
        """`tokens`: the target's token of each row of the head."""
        super().__init__(model, target, load)
        self._tokens = tokens
        self._rows = np.full((self.max_outputs, target.model.num_tokens), -np.inf, np.float32)
        self._embd = lib.llama_embd(None, 1, model.hidden_width)
        self._batch = lib.llama_batch_ext_init(target.handle)
        assert self.max_outputs <= lib.llama_n_batch(target.handle)

    def close(self) -> None:
        lib.llama_batch_ext_free(self._batch)
        super().close()

    def logits(self, row: int) -> NDArray[np.float32]:
        """As wide as the target's vocabulary, with -inf for what the head lacks."""
        full: NDArray[np.float32] = self._rows[self._outputs.index(row)]
        full[self._tokens] = super().logits(row)
        return full

    def _process(self, batch: Batch) -> int:
        lib.llama_batch_ext_clear(self._batch)
        for row in range(batch.count):
            self._add(batch, row)
        return int(lib.llama_process(self.handle, PROCESS_DECODE, self._batch))

    def _add(self, batch: Batch, row: int) -> None:
        added, position = self._batch, lib.llama_pos(int(batch.positions[row]))
        index = lib.llama_batch_ext_add_token(added, int(batch.seqs[row]), int(batch.tokens[row]))
        assert index == row, f"row {row} was not added: {index}"
        self._embd.data = pointer(batch.hidden[row], FLOAT_P)
        has_hidden = lib.llama_batch_ext_set_embd_token(added, row, self._embd)
        assert has_hidden, f"the hidden row of row {row} was not added"
        lib.llama_batch_ext_set_pos(added, row, ctypes.byref(position))
        lib.llama_batch_ext_set_output_logits(added, row, bool(batch.is_output[row]))
