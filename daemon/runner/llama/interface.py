"""What the runner asks of llama.cpp: a model, a context for text, and the contexts of drafters.

This module imports no llama_cpp, and neither does anything that is typed against it, so engine,
scheduler and speculation run in tests on a fake (tests/fake_llama.py). The implementations are
`LlamaModel`, `TextContext`, `NextnContext`, `EagleContext` and `AssistantContext` beside this file.
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
    def is_on_gpu(self) -> bool:
        """Whether any buffer of the model or its context lies in a GPU's memory."""

    def is_end(self, token: int) -> bool:
        """Whether this token ends the generation."""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; a control token is empty unless `special`."""

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids of a text in which special tokens are recognised. Raises BadRequest."""

    def grammar_tokenizer(self) -> LLTokenizer:
        """The vocabulary in the form that llguidance needs; a slow call (about 1 s)."""

    def close(self) -> None:
        """Free the weights, after every context on them."""


class EncoderModel(Protocol):
    """A model for embeddings: its tokenizer, and how it pools."""

    train_ctx: int  # tokens of a text that the model was trained for
    pooling: int  # MEAN, CLS, LAST or RANK

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids of a text in which special tokens are recognised. Raises BadRequest."""


class KVMemory(Protocol):
    """The memory of a context: cells by sequence id and position, and recurrent states."""

    def clear(self, seq: int) -> None:
        """Empty a sequence."""

    def copy(self, source: int, target: int, count: int) -> None:
        """Let an empty sequence share the first `count` tokens of another (GUIDE 5.1)."""

    def truncate(self, seq: int, count: int) -> None:
        """Remove all but the first `count` tokens. Raises DecodeFailed (GUIDE 4.4)."""

    def first_position(self, seq: int) -> int:
        """The oldest position that every layer still has; -1 for an empty sequence."""

    def num_cached(self, seq: int) -> int:
        """Evaluated tokens of a sequence; to be read again after an abort (GUIDE 10.2)."""

    def save(self, seq: int, *, whole: bool = False) -> State:
        """The part that `truncate` cannot restore (window or recurrent state), or all."""

    def restore(self, seq: int, state: State, *, whole: bool = False) -> None:
        """Load a saved state into any sequence. Raises DecodeFailed if there are no cells."""


class LogitsDecoder(Protocol):
    """A context whose output rows have logits."""

    max_outputs: int  # rows of one decode that may be outputs

    @property
    def model(self) -> LanguageModel: ...

    def decode(self, batch: Batch) -> int:
        """Evaluate the rows: DECODED, NO_CELLS or ABORTED. Raises DecodeFailed."""

    def logits(self, row: int) -> NDArray[np.float32]:
        """A read-only view of an output row, valid until the next decode (GUIDE 0.14)."""

    def hidden(self, row: int) -> Hidden:
        """A copy of the hidden row of a row of the last decode, for drafters that read it."""

    def close(self) -> None:
        """Free the context."""


class SequenceDecoder(LogitsDecoder, KVMemory, Protocol):
    """A context with a KV cache of its own."""


class TargetDecoder(SequenceDecoder, Protocol):
    """The context of the engine: the KV cache of all slots."""

    num_seqs: int  # sequence ids: one for each slot, and some for released prefixes
    max_drafts: int  # draft tokens of one sequence that can be rolled back; 0 means no speculation

    def abort(self) -> None:
        """Make the running decode return ABORTED; callable from another thread (GUIDE 10.3)."""

    def disarm(self) -> None:
        """Take an abort back."""


class HeadDecoder(SequenceDecoder, Protocol):
    """The context of a draft head, which reads hidden rows of its target (GUIDE 2.3, 2.4)."""

    width: int  # floats of a row that the head reads
    first: Hidden | None  # the row for position 0; None if the head starts at position 1
    max_unread: int  # hidden rows that the first decode of a draft may evaluate

    def take(self, row: int) -> Hidden:
        """What the head needs of a row of the target's last decode."""

    def fuse(self, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        """The rows that the head reads, one for each of `taken`. Raises DecodeFailed."""


class PoolingDecoder(Protocol):
    """A context that makes one vector of a sequence (GUIDE 1.13)."""

    width: int  # floats of a vector
    can_split: bool  # whether a sequence may come in several batches

    def decode(self, batch: Batch) -> int:
        """Evaluate the rows: DECODED, NO_CELLS or ABORTED. Raises DecodeFailed."""

    def vector(self, seq: int) -> NDArray[np.float32]:
        """A copy of the vector of a sequence of the last decode."""

    def clear_all(self) -> None:
        """Empty all sequences."""

    def abort(self) -> None: ...
    def disarm(self) -> None: ...
