"""What does the runner need of llama.cpp? A model, a context for text, contexts of drafters.

This module imports no llama_cpp, and neither does anything that is typed against it, so engine,
scheduler and speculation run in tests on a fake (tests/fake_llama.py). `LlamaModel` and the
contexts beside this file implement it, and document each method with its rule of GUIDE.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from ..batch import Batch, Hidden

State = NDArray[np.uint8]  # a saved sequence or a part of one, in llama.cpp's own format

# Return codes of a decode, GUIDE 10.2.
DECODED, NO_CELLS, ABORTED = 0, 1, 2

# Pooling types, by their numbers in llama.h and in the GGUF header (GUIDE 1.13).
MEAN, CLS, LAST, RANK = 1, 2, 3, 4


class LanguageModel(Protocol):
    """Weights and vocabulary: what does not change while a context decodes."""

    num_tokens: int  # size of the vocabulary
    bos: int  # the beginning-of-sequence token, or -1
    eos: int  # the end-of-sequence token, or -1
    adds_bos: bool  # whether the tokenizer puts a BOS in front of a text
    suppressed: tuple[int, ...]  # tokens that must never be sampled (GUIDE 1.8)
    chat_template: str | None  # the Jinja source in the GGUF header; None if there is none
    window: int  # tokens that a sliding-window layer attends to; 0 without such layers
    is_recurrent: bool  # whether any layer has a recurrent state (GUIDE 4.4)
    hidden_width: int  # floats of a hidden row that leaves the model, and that its drafter reads

    @property
    def is_on_gpu(self) -> bool: ...
    def is_end(self, token: int) -> bool: ...
    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def tokenize(self, text: str, *, add_bos: bool) -> list[int]: ...
    def grammar_tokenizer(self) -> LLTokenizer: ...
    def close(self) -> None: ...


class EncoderModel(Protocol):
    """A model for embeddings."""

    train_ctx: int  # tokens of a text that the model was trained for
    pooling: int  # MEAN, CLS, LAST or RANK

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]: ...


class KVMemory(Protocol):
    """The memory of a context: cells by sequence id and position, and recurrent states."""

    def clear(self, seq: int) -> None: ...
    def copy(self, source: int, target: int, count: int) -> None: ...
    def truncate(self, seq: int, count: int) -> None: ...
    def first_position(self, seq: int) -> int: ...
    def num_cached(self, seq: int) -> int: ...
    def save(self, seq: int, *, whole: bool = False) -> State: ...
    def restore(self, seq: int, state: State, *, whole: bool = False) -> None: ...


class Decoder(Protocol):
    """A context: evaluates the rows of a batch."""

    def decode(self, batch: Batch) -> int: ...
    def abort(self) -> None: ...
    def disarm(self) -> None: ...
    def set_threads(self, threads: int) -> None: ...
    def close(self) -> None: ...


class LogitsDecoder(Decoder, Protocol):
    """A context whose output rows have logits."""

    max_outputs: int  # rows of one decode that may be outputs

    @property
    def model(self) -> LanguageModel: ...
    def logits(self, row: int) -> NDArray[np.float32]: ...
    def hidden(self, row: int) -> Hidden: ...


class SequenceDecoder(LogitsDecoder, KVMemory, Protocol):
    """A context with a KV cache of its own."""


class TargetDecoder(SequenceDecoder, Protocol):
    """The context of the engine: the KV cache of all slots."""

    num_seqs: int  # sequence ids: one for each slot, and some for released prefixes
    max_drafts: int  # draft tokens of one sequence that can be rolled back; 0 means no speculation


class HeadDecoder(SequenceDecoder, Protocol):
    """The context of a draft head, which reads hidden rows of its target (GUIDE 2.3, 2.4)."""

    width: int  # floats of a row that the head reads
    first: Hidden | None  # the row for position 0; None if the head starts at position 1
    max_unread: int  # hidden rows that the first decode of a draft may evaluate

    def take(self, row: int) -> Hidden: ...
    def fuse(self, taken: Sequence[Hidden]) -> Sequence[Hidden]: ...


class PoolingDecoder(Decoder, Protocol):
    """A context that makes one vector of a sequence (GUIDE 1.13)."""

    width: int  # floats of a vector
    can_split: bool  # whether a sequence may come in several batches

    def vector(self, seq: int) -> NDArray[np.float32]: ...
    def clear_all(self) -> None: ...
