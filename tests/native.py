"""How tests call llama.cpp without the runner: plain models and contexts, freed at the end."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray
from outrider.daemon.runner.llama.log import LlamaLog

Floats = NDArray[np.float32]
FLOAT_P = ctypes.POINTER(ctypes.c_float)


class Native:
    """Frees what it opened, the latest first, as llama.cpp asks (GUIDE 1.4)."""

    def __init__(self) -> None:
        self._log = LlamaLog()  # llama.cpp calls it until the models are freed
        self._log.listen()
        self._opened = ExitStack()

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._opened.close()

    def model(self, gguf: Path) -> int:
        """The handle of a loaded model."""
        params = lib.llama_model_default_params()
        handle: int = lib.llama_model_load_from_file(str(gguf).encode(), params)
        assert handle, self._log.cause
        self._opened.callback(lib.llama_model_free, handle)
        return handle

    def context(self, model: int, **changes: object) -> int:
        """The handle of a context: one sequence, an exact cache, all rows may be outputs."""
        params = lib.llama_context_default_params()
        facts: dict[str, object] = {
            "n_ctx": 512,
            "n_batch": 128,
            "n_ubatch": 128,
            "n_outputs_max": 128,
            "n_threads": 1,  # a second one only waits for the first on a model so small
            "n_threads_batch": 1,
            "type_k": lib.GGML_TYPE_F32,
            "type_v": lib.GGML_TYPE_F32,
            "flash_attn_type": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
            "kv_unified": True,
            "swa_full": False,
        }
        for name, value in (facts | changes).items():
            setattr(params, name, value)
        handle: int = lib.llama_init_from_model(model, params)
        assert handle, self._log.cause
        self._opened.callback(lib.llama_free, handle)
        return handle


def tokenize(model: int, text: str) -> list[int]:
    """Token ids, with those that the model puts around a text."""
    data, room = text.encode(), len(text) + 8
    out = (lib.llama_token * room)()
    vocab = lib.llama_model_get_vocab(model)
    count = lib.llama_tokenize(vocab, data, len(data), out, room, True, True)
    return list(out[:count])


def decode(
    context: int, tokens: Sequence[int], position: int, *, seq: int = 0, rows: Floats | None = None
) -> int:
    """llama_decode of a run of one sequence, whose last token is an output; returns its rc.

    `rows` has an embedding per token, as a drafter takes them beside the tokens.
    """
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, position + i
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, seq
        batch.logits[i] = i == len(tokens) - 1
    if rows is not None:
        batch.embd = rows.ctypes.data_as(FLOAT_P)
    rc = int(lib.llama_decode(context, batch))
    batch.embd = None  # numpy's, not llama.cpp's to free
    lib.llama_batch_free(batch)
    return rc


def logits(context: int, model: int) -> Floats:
    """A copy of the logits of the last output row."""
    pointer = lib.llama_get_logits_ith(context, -1)
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    return np.ctypeslib.as_array(pointer, (size,)).copy()


def embedding(context: int, model: int, text: str) -> Floats:
    """The pooled embedding of a text."""
    assert decode(context, tokenize(model, text), 0) == 0
    pointer = lib.llama_get_embeddings_seq(context, 0)
    return np.ctypeslib.as_array(pointer, (lib.llama_model_n_embd_out(model),)).copy()
