"""Which tokens of its target does a trimmed drafter have a logit for (GUIDE 2.1)?

They are arrays of the GGUF header, which a loaded model of llama.cpp does not keep.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as lib
from llama_cpp._ctypes_extensions import load_shared_library
from numpy.typing import NDArray

from ...errors import LoadFailed
from .model import LlamaModel

# Keys that `outrider quantize --draft-vocab` writes (quant/draft_vocab.py).
TOKENS_KEY = b"outrider.draft_vocab.tokens"
SIZE_KEY = "outrider.draft_vocab.size"
TEXTS_KEY = b"tokenizer.ggml.tokens"
GGUF_TYPE_INT32, GGUF_TYPE_STRING, GGUF_TYPE_ARRAY = 5, 8, 9  # gguf.h


class _InitParams(ctypes.Structure):
    """gguf_init_params: the tensors are not read, and no context is made of them."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class DraftVocab:
    """The target's token of each row of a head, ascending, and that token's text."""

    tokens: NDArray[np.int64]
    texts: tuple[bytes, ...]
    target_size: int  # tokens of the target


def read_draft_vocab(model: LlamaModel, path: str) -> DraftVocab | None:
    """That of a loaded drafter; None if its head is whole. Raises LoadFailed."""
    size = model.number(SIZE_KEY)
    if not size:
        return None
    gguf = _functions()
    handle = gguf.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not handle:
        raise LoadFailed(f"the header of {path} cannot be read")
    try:
        found = gguf.gguf_find_key(handle, TOKENS_KEY), gguf.gguf_find_key(handle, TEXTS_KEY)
        kinds = GGUF_TYPE_INT32, GGUF_TYPE_STRING
        counts = [_count(gguf, handle, *pair) for pair in zip(found, kinds, strict=True)]
        if set(counts) != {model.num_tokens}:
            raise LoadFailed(f"its head has {model.num_tokens} rows, for {counts} tokens and texts")
        address = gguf.gguf_get_arr_data(handle, found[0])
        rows = (ctypes.c_int32 * counts[0]).from_address(address)
        tokens = np.array(rows, np.int64)
        texts = tuple(gguf.gguf_get_arr_str(handle, found[1], i) for i in range(counts[1]))
        return DraftVocab(tokens, texts, size)
    finally:
        gguf.gguf_free(handle)


def check_draft_vocab(vocab: DraftVocab, target: LlamaModel) -> None:
    """Raises LoadFailed unless its tokens are those of the target."""
    if vocab.target_size != target.num_tokens:
        raise LoadFailed(
            f"its head is of a vocabulary of {vocab.target_size} tokens, and this model's has "
            f"{target.num_tokens}"
        )
    ids = vocab.tokens
    if (ids[:-1] >= ids[1:]).any() or ids[0] < 0 or ids[-1] >= target.num_tokens:
        raise LoadFailed("the tokens of its head are not in order")
    for token, text in zip(ids.tolist(), vocab.texts, strict=True):
        own = lib.llama_vocab_get_text(target.vocab, token)
        if own != text:
            raise LoadFailed(f"token {token} is {text!r} in its vocabulary, and {own!r} here")


def _count(gguf: ctypes.CDLL, handle: int, key: int, kind: int) -> int:
    """Elements of an array of this type; 0 if there is none."""
    if key < 0 or gguf.gguf_get_kv_type(handle, key) != GGUF_TYPE_ARRAY:
        return 0
    return (
        int(gguf.gguf_get_arr_n(handle, key)) if gguf.gguf_get_arr_type(handle, key) == kind else 0
    )


def _functions() -> ctypes.CDLL:
    """The functions of gguf.h, which the bindings leave out."""
    gguf: ctypes.CDLL = load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
    handle, key = ctypes.c_void_p, ctypes.c_int64
    gguf.gguf_init_from_file.argtypes = [ctypes.c_char_p, _InitParams]
    gguf.gguf_init_from_file.restype = handle
    gguf.gguf_free.argtypes = [handle]
    gguf.gguf_find_key.argtypes, gguf.gguf_find_key.restype = [handle, ctypes.c_char_p], key
    for name, result in {
        "gguf_get_kv_type": ctypes.c_int,
        "gguf_get_arr_type": ctypes.c_int,
        "gguf_get_arr_n": ctypes.c_size_t,
        "gguf_get_arr_data": ctypes.c_void_p,
    }.items():
        function = getattr(gguf, name)
        function.argtypes, function.restype = [handle, key], result
    gguf.gguf_get_arr_str.argtypes = [handle, key, ctypes.c_size_t]
    gguf.gguf_get_arr_str.restype = ctypes.c_char_p
    return gguf
