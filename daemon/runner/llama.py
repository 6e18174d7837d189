"""Every call into llama.cpp, each with its rule from the engine guide.

Nothing else in the runner touches ctypes. A GGML_ASSERT ends the process, so what would trigger
one is checked here, in Python, before the call (guide sections 0 and 10.1).
"""

from __future__ import annotations

import ctypes
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from llama_cpp import llama_cpp as lib
from llama_cpp import llama_cpp_ext as ext
from numpy.typing import NDArray

from ..errors import BadRequest, DecodeFailed, LoadFailed
from ..protocol import MAX_DRAFTS, MAX_READ_AHEAD, Load
from .holding import State

Hidden = NDArray[np.float32]  # what a model's last layer made of one token

# rc of llama_decode, guide section 10.2
DECODED, NO_CELLS, ABORTED = 0, 1, 2

KV_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}
MEAN, CLS, LAST, RANK = (
    lib.LLAMA_POOLING_TYPE_MEAN,
    lib.LLAMA_POOLING_TYPE_CLS,
    lib.LLAMA_POOLING_TYPE_LAST,
    lib.LLAMA_POOLING_TYPE_RANK,
)
UINT8_P = ctypes.POINTER(ctypes.c_uint8)
PARTIAL_ONLY = lib.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
CONTEXT_TYPE_MTP = lib.LLAMA_CONTEXT_TYPE_MTP
MAX_PARKED = 16
FUSED_ROWS = 32  # that an EAGLE-3 encoder takes at once; each takes room for logits as well
RECURRENT_DRAFTS = 4  # each takes the memory of one more state for every sequence
MAX_OUTPUTS = 64  # of one step; each takes a float for every token of the vocabulary
LOG_ERROR = 4
BUFFER_SIZE = re.compile(r"(\S+) (?:model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
ON_HOST = re.compile(r"CPU|_Host")


class Log:
    """llama.cpp's own words: reasons and sizes are only ever told there (guide 10.4)."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=20)
        self.size_bytes = 0  # of all buffers
        self.size_vram_bytes = 0  # of those on a GPU
        self._callback = lib.llama_log_callback(self._take)  # must stay referenced
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _user: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == LOG_ERROR:
            self._errors.append(line)
        for device, mib in BUFFER_SIZE.findall(line):
            size_bytes = int(float(mib) * 2**20)
            self.size_bytes += size_bytes
            self.size_vram_bytes += 0 if ON_HOST.search(device) else size_bytes

    @property
    def cause(self) -> str:
        """The first error, which names the cause; the later ones are its echoes."""
        return self._errors[0].partition(": ")[2] or self._errors[0] if self._errors else "unknown"


class Model:
    """Weights and vocabulary."""

    def __init__(
        self, path: str, load: Load, log: Log, progress: Callable[[float], None] | None = None
    ) -> None:
        """Raises LoadFailed with llama.cpp's own reason."""

        def report(fraction: float, _user: object) -> bool:
            if progress:
                progress(fraction)
            return True

        params = lib.llama_model_default_params()
        params.n_gpu_layers = load.gpu_layers
        params.main_gpu = load.main_gpu or 0
        params.load_mtp = load.mtp
        if load.use_mmap is not None:
            modes = (lib.LLAMA_LOAD_MODE_NONE, lib.LLAMA_LOAD_MODE_MMAP)
            params.load_mode = modes[load.use_mmap]
        callback = lib.llama_progress_callback(report)
        params.progress_callback = callback
        self.handle = lib.llama_model_load_from_file(path.encode(), params)
        if not self.handle:
            raise LoadFailed(f"unable to load model {path}: {log.cause}")
        self._log = log  # llama.cpp writes to it until the process ends
        self.vocab = lib.llama_model_get_vocab(self.handle)
        self.num_tokens: int = lib.llama_vocab_n_tokens(self.vocab)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def close(self) -> None:
        lib.llama_model_free(self.handle)

    @cached_property
    def train_ctx(self) -> int:
        return int(lib.llama_model_n_ctx_train(self.handle))

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether any layer keeps a state that cannot be cut back (guide 4.4)."""
        h = self.handle
        return bool(lib.llama_model_is_recurrent(h) or lib.llama_model_is_hybrid(h))

    @property
    def is_on_gpu(self) -> bool:
        """Whether anything of it, or of its context, lies in a GPU's memory."""
        return self._log.size_vram_bytes > 0

    @cached_property
    def window(self) -> int:
        """Tokens that a sliding-window layer sees; 0 without such layers."""
        return int(lib.llama_model_n_swa(self.handle))

    @cached_property
    def architecture(self) -> str:
        """As the GGUF header names it: "llama", "gemma4", "gemma4-assistant"."""
        return self._metadata("general.architecture")

    @cached_property
    def hidden_width(self) -> int:
        """Floats of a hidden row that leaves this model, or that its drafter takes in."""
        return int(lib.llama_model_n_embd_out(self.handle))

    @cached_property
    def width(self) -> int:
        """Floats of a row between its layers."""
        return int(lib.llama_model_n_embd(self.handle))

    @cached_property
    def num_layers(self) -> int:
        return int(lib.llama_model_n_layer(self.handle))

    @cached_property
    def target_width(self) -> int:
        """Floats of a row of the targets that an EAGLE-3 head was made for."""
        return int(self._metadata(f"{self.architecture}.target_hidden_size") or 0)

    @cached_property
    def target_layers(self) -> tuple[int, ...]:
        """The target's layers whose input an EAGLE-3 head reads; their number stands for what
        leaves the last one. Raises LoadFailed."""
        name, pointer = "llama_model_target_layer_ids", ctypes.c_void_p
        num = _private(f"{name}_n", f"_Z30{name}_nPK11llama_model", ctypes.c_uint32, pointer)
        ids = _private(name, f"_Z28{name}PK11llama_model", ctypes.POINTER(ctypes.c_int32), pointer)
        return tuple(ids(self.handle)[: num(self.handle)])

    @cached_property
    def pooling(self) -> int:
        """How a sequence becomes one vector: MEAN, CLS, LAST or RANK; MEAN if it does not say."""
        stated = self._metadata(f"{self.architecture}.pooling_type")
        return int(stated or 0) or MEAN

    @cached_property
    def adds_bos(self) -> bool:
        return bool(lib.llama_vocab_get_add_bos(self.vocab))

    @cached_property
    def bos(self) -> int:
        """The beginning-of-sequence token, or -1."""
        return int(lib.llama_vocab_bos(self.vocab))

    @cached_property
    def eos(self) -> int:
        """The end-of-sequence token, or -1."""
        return int(lib.llama_vocab_eos(self.vocab))

    @cached_property
    def suppressed(self) -> tuple[int, ...]:
        """Tokens that must never be drawn, such as image placeholders (guide 1.8)."""
        count = ctypes.c_int32(0)
        ids = lib.llama_vocab_get_suppress_tokens(self.vocab, ctypes.byref(count))
        return tuple(ids[i] for i in range(count.value))

    @cached_property
    def chat_template(self) -> str | None:
        source = lib.llama_model_chat_template(self.handle, None)
        return source.decode("utf-8", "replace") if source else None

    def _metadata(self, key: str) -> str:
        """A short value of the GGUF header as text; "" if the key is not there."""
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        """Whether this token ends the generation."""
        if (known := self._ends.get(token)) is None:
            known = self._ends[token] = bool(lib.llama_vocab_is_eog(self.vocab, token))
        return known

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; a control token is empty unless `special`."""
        key = ~token if special else token
        if (piece := self._pieces.get(key)) is None:
            piece = self._pieces[key] = self._read_piece(token, special)
        return piece

    def _read_piece(self, token: int, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids of a text in which special tokens are recognised.

        With `add_bos` also what the tokenizer puts around a text: [CLS] and [SEP], BOS, EOS.
        """
        data = text.encode("utf-8", "replace")
        room = len(data) // 2 + 16
        while True:
            out = (lib.llama_token * room)()
            n = lib.llama_tokenize(self.vocab, data, len(data), out, room, add_bos, True)
            if n >= 0:
                return list(out[:n])
            if n == -(2**31):
                raise BadRequest("the prompt is too long to be tokenized")
            room = -n


class Rows:
    """The rows of one decode: arrays behind a persistent llama_batch (guide 6.5)."""

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
        self.batch = lib.llama_batch()
        int32_p = ctypes.POINTER(ctypes.c_int32)
        self.batch.token = _pointer(token, int32_p)
        self.batch.pos = _pointer(pos, int32_p)
        self.batch.n_seq_id = _pointer(num_seq, int32_p)
        self.batch.seq_id = _pointer(seq_ptr, ctypes.POINTER(int32_p))
        self.batch.logits = _pointer(output, ctypes.POINTER(ctypes.c_int8))
        if hidden_width:
            self.batch.embd = _pointer(self._hidden, ctypes.POINTER(ctypes.c_float))
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.outputs: list[int] = []  # rows with logits

    def add(self, seq: int, position: int, tokens: Sequence[int], *, outputs: int) -> int:
        """Append a run of tokens of one sequence, the last `outputs` of them with logits; returns
        the row of the first of these."""
        start = self.count
        end = self.count = self.batch.n_tokens = start + len(tokens)
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
        """Make every row an output, as pooling asks for (guide 1.13)."""
        for row in range(self.count):
            self._output[row] = 1
        self.outputs = list(range(self.count))


class Decoder:
    """A llama.cpp context: what it takes whatever it is for, and the decode."""

    def __init__(self, model: Model, load: Load, *, seqs: int, outputs: int, **more: object):
        params = lib.llama_context_default_params()
        params.n_ctx = load.cells
        params.n_batch = params.n_ubatch = load.batch
        params.n_seq_max, params.n_outputs_max = seqs, outputs
        params.n_threads = params.n_threads_batch = load.threads  # guide 1.4
        params.type_k = params.type_v = KV_TYPES[load.kv_type]
        if load.kv_type == "f32":  # flash attention would round the cache to f16
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        elif load.draft:  # the contexts of a pair must agree, and each resolves AUTO alone
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.kv_unified = True
        params.swa_full = False
        params.no_perf = True
        for name, value in more.items():
            setattr(params, name, value)
        self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LoadFailed(
                f"unable to create a context of {load.cells} tokens for {load.model}; "
                "a smaller num_ctx may fit"
            )
        self.model = model
        self._memory = lib.llama_get_memory(self.handle)
        self._max_outputs = outputs
        self._abort = _arm_abort(self.handle)

    def close(self) -> None:
        lib.llama_free(self.handle)

    def decode(self, rows: Rows) -> int:
        """DECODED, NO_CELLS or ABORTED; anything else raises DecodeFailed."""
        assert 0 < rows.count <= rows.capacity, rows.count
        assert len(rows.outputs) <= self._max_outputs, len(rows.outputs)
        rc = int(lib.llama_decode(self.handle, rows.batch))
        if rc not in (DECODED, NO_CELLS, ABORTED):
            raise DecodeFailed(f"llama_decode returned {rc} for {rows.count} rows")
        return rc

    def abort(self) -> None:
        """Make the running decode return ABORTED; callable from another thread (guide 10.3)."""
        self._abort[0] = b"\x01"

    def disarm(self) -> None:
        """Forget an abort that was asked for."""
        self._abort[0] = b"\x00"


class TextDecoder(Decoder):
    """A context whose rows say which token comes next."""

    def __init__(self, model: Model, load: Load, *, seqs: int, outputs: int, **more: object):
        super().__init__(model, load, seqs=seqs, outputs=outputs, **more)
        self.max_outputs = outputs
        self._logits_of = _logits_getter()
        self._logits = np.empty((0, model.num_tokens), np.float32)  # by number of the output
        self._address = 0  # of these
        self._is_read = False
        self._outputs: list[int] = []  # rows that they belong to
        self.keep_hidden(False)

    def keep_hidden(self, is_kept: bool, *, of_all: bool = False) -> None:
        """Whether `hidden` can be asked, of all rows or of outputs alone: then only these reach the
        last layer, which prunes a prompt's (guide 0.7 and 2.2)."""
        ext.llama_set_embeddings_nextn(self.handle, is_kept, not of_all)

    def hidden(self, row: int) -> Hidden:
        """A copy of the hidden row of a row that has one, to be taken before the next decode."""
        pointer = ext.llama_get_embeddings_nextn_ith(self.handle, row)
        assert pointer, f"row {row} has no hidden row"
        return np.ctypeslib.as_array(pointer, (self.model.hidden_width,)).copy()

    def decode(self, rows: Rows) -> int:
        self._outputs, self._is_read = rows.outputs, False
        return super().decode(rows)

    def logits(self, row: int) -> NDArray[np.float32]:
        """A view of one output row, valid until the next decode (guide 0.14)."""
        if not self._is_read:
            self._read()
        found: NDArray[np.float32] = self._logits[self._outputs.index(row)]
        return found

    def _read(self) -> None:
        """Outputs lie one after the other, seldom elsewhere than the last time."""
        address = self._logits_of(self.handle)
        assert address, "the last decode had no outputs"
        if address != self._address:
            shape = self.max_outputs, self.model.num_tokens
            data = (ctypes.c_float * (shape[0] * shape[1])).from_address(address)
            self._logits = np.frombuffer(memoryview(data), np.float32).reshape(shape)
            self._address = address
        self._is_read = True


class TextCache(TextDecoder):
    """One with a KV cache of its own."""

    def clear(self, seq: int) -> None:
        """Forget everything that a sequence holds."""
        lib.llama_memory_seq_rm(self._memory, seq, -1, -1)

    def copy(self, source: int, target: int, count: int) -> None:
        """Let an empty sequence share the first tokens of another (guide 5.1)."""
        lib.llama_memory_seq_cp(self._memory, source, target, 0, count)

    def truncate(self, seq: int, count: int) -> None:
        """Forget all but the first tokens. Raises DecodeFailed where the memory cannot (4.4)."""
        if not lib.llama_memory_seq_rm(self._memory, seq, count, -1):
            raise DecodeFailed(f"sequence {seq} cannot be cut back to {count} tokens")

    def first_position(self, seq: int) -> int:
        """The oldest token that every layer still holds; -1 for an empty sequence."""
        return int(lib.llama_memory_seq_pos_min(self._memory, seq))

    def save(self, seq: int, *, whole: bool = False) -> State:
        """What cannot be cut back, that is the sliding window or the recurrent state; or all."""
        flags = 0 if whole else PARTIAL_ONLY  # guide 1.10
        size = lib.llama_state_seq_get_size_ext(self.handle, seq, flags)
        state = np.empty(size, np.uint8)
        target = _pointer(state, UINT8_P)
        return state[: lib.llama_state_seq_get_data_ext(self.handle, target, size, seq, flags)]

    def restore(self, seq: int, state: State, *, whole: bool = False) -> None:
        """Put a saved state back, in any sequence. Raises DecodeFailed if there are no cells."""
        flags = 0 if whole else PARTIAL_ONLY
        source = _pointer(state, UINT8_P)
        args = (self.handle, source, len(state), seq, flags)
        if lib.llama_state_seq_set_data_ext(*args) != len(state):
            raise DecodeFailed(f"the state of sequence {seq} cannot be restored")

    def num_cached(self, seq: int) -> int:
        """How many tokens of a sequence are evaluated (guide 10.2: re-read after an abort)."""
        return int(lib.llama_memory_seq_pos_max(self._memory, seq)) + 1


class Context(TextCache):
    """The KV cache of all slots, for text."""

    def __init__(self, model: Model, load: Load) -> None:
        count = num_seqs(model, load)
        outputs = max(count, min(load.slots * (1 + MAX_DRAFTS), MAX_OUTPUTS, load.batch))
        undone = min(RECURRENT_DRAFTS, load.batch - 2) if load.speculation != 0 else 0
        super().__init__(model, load, seqs=count, outputs=outputs, n_rs_seq=undone)  # guide 0.2
        self.max_drafts = MAX_DRAFTS
        if model.is_recurrent:  # a snapshot for each; some architectures have none (guide 4.4)
            self.max_drafts = int(lib.llama_n_rs_seq(self.handle))


class NextnContext(TextCache):
    """What the head drafts with that is part of the target's own weights: a small KV cache
    (guide 2.3)."""

    def __init__(self, target: Context, load: Load) -> None:
        super().__init__(
            target.model, load, seqs=load.slots, outputs=load.slots, ctx_type=CONTEXT_TYPE_MTP
        )
        self._target = target
        self.width = target.model.hidden_width
        self.first: Hidden | None = np.zeros(self.width, np.float32)
        self.max_unread = (
            1 + MAX_READ_AHEAD
        )  # hidden rows that a draft takes in with the newest one
        self.keep_hidden(True, of_all=True)
        target.keep_hidden(True, of_all=True)

    def take(self, row: int) -> Hidden:
        """What the head needs of a row of the target's last decode."""
        return self._target.hidden(row)

    def fuse(self, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        """What it reads of that."""
        return taken


class EagleContext(TextCache):
    """What an EAGLE-3 head drafts with: an encoder that makes one row of what enters three layers
    of the target, a decoder layer and its KV cache (guide 2.4).

    Its decoder makes logits of all rows of a decode or, where none is asked for, of none.
    """

    def __init__(self, model: Model, target: Context, load: Load) -> None:
        super().__init__(model, load, seqs=load.slots, outputs=load.slots, ctx_other=target.handle)
        self._target = target
        self._layers = model.target_layers
        self.width = int(lib.llama_model_n_embd(model.handle))
        self.first: Hidden | None = None
        self.max_unread = 1
        self._features = Rows(FUSED_ROWS, hidden_width=len(self._layers) * target.model.width)
        self._features.batch.token = None
        self.keep_hidden(True)
        name, pointer, number = "llama_set_embeddings_layer_inp", ctypes.c_void_p, ctypes.c_uint32
        keep = _private(name, f"_Z30{name}P13llama_contextjb", None, pointer, number, ctypes.c_bool)
        name = "llama_get_embeddings_layer_inp"
        self._entered = _private(name, f"_Z30{name}P13llama_contextj", pointer, pointer, number)
        for layer in self._layers:
            if layer == target.model.num_layers:
                target.keep_hidden(True, of_all=True)
            else:
                keep(target.handle, layer, True)

    def take(self, row: int) -> Hidden:
        """What enters the three layers, side by side."""
        return np.concatenate([self._entering(layer, row) for layer in self._layers])

    def _entering(self, layer: int, row: int) -> Hidden:
        if layer == self._target.model.num_layers:
            return self._target.hidden(row)
        width = self._target.model.width
        address = self._entered(self._target.handle, layer)
        return np.ctypeslib.as_array(
            (ctypes.c_float * width).from_address(address + 4 * width * row)
        )

    def fuse(self, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        """A row of the decoder's width for each. Raises DecodeFailed."""
        fused: list[Hidden] = []
        for start in range(0, len(taken), FUSED_ROWS):
            part = taken[start : start + FUSED_ROWS]
            self._features.clear()
            next_ = self.num_cached(0)  # positions mean nothing here, but have to be plausible
            self._features.add_hidden(0, next_, [0] * len(part), part, outputs=len(part))
            if lib.llama_encode(self.handle, self._features.batch):
                raise DecodeFailed(f"llama_encode failed for {len(part)} rows")
            fused += [self.hidden(row) for row in range(len(part))]
        return fused

    def close(self) -> None:
        super().close()
        self.model.close()


class AssistantContext(TextDecoder):
    """What drafts with the target's KV cache, and has none of its own (guide 2.1).

    Make it before the target's first decode, which it would undo. Nothing but decodes may be asked
    of it.
    """

    def __init__(self, model: Model, target: Context, load: Load) -> None:
        seqs = num_seqs(target.model, load)  # as the target has, or the cells would not match
        rows = max(seqs, 32)
        super().__init__(
            model,
            load,
            seqs=seqs,
            outputs=seqs,
            n_batch=rows,
            n_ubatch=rows,
            ctx_other=target.handle,
            ctx_type=CONTEXT_TYPE_MTP,
        )
        self.keep_hidden(True)
        target.keep_hidden(True)


class EmbeddingContext(Decoder):
    """Texts in, a pooled vector for each out (guide 1.13)."""

    def __init__(self, model: Model, load: Load) -> None:
        if model.pooling == RANK:
            raise LoadFailed(f"{load.model} is a reranker: it gives scores, not embeddings")
        outputs = max(load.batch, load.slots)  # every row is one
        facts = {"embeddings": True, "pooling_type": model.pooling}
        super().__init__(model, load, seqs=load.slots, outputs=outputs, **facts)
        self.width = int(lib.llama_model_n_embd_out(model.handle))
        self.can_split = bool(self._memory) and bool(lib.llama_get_causal_attn(self.handle))

    def vector(self, seq: int) -> NDArray[np.float32]:
        """A copy of what the last decode made of a sequence."""
        pointer = lib.llama_get_embeddings_seq(self.handle, seq)
        assert pointer, f"sequence {seq} was not in the batch"
        return np.ctypeslib.as_array(pointer, (self.width,)).copy()

    def forget(self) -> None:
        """Empty all sequences; an encoder has no memory that could be cleared (guide 1.5)."""
        if self._memory:
            lib.llama_memory_clear(self._memory, False)


C = TypeVar("C", bound=Decoder)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """A model that is ready to decode."""

    model: Model
    context: C
    log: Log


def load_model(load: Load, progress: Callable[[float], None]) -> Loaded[Context]:
    """Weights and context. Raises LoadFailed with llama.cpp's own reason."""
    return _load(Context, load, progress)


def load_embedding_model(load: Load, progress: Callable[[float], None]) -> Loaded[EmbeddingContext]:
    """The same for embeddings."""
    return _load(EmbeddingContext, load, progress)


def _load(
    kind: Callable[[Model, Load], C], load: Load, progress: Callable[[float], None]
) -> Loaded[C]:
    log = Log()
    lib.llama_backend_init()
    model = Model(load.model, load, log, progress)
    return Loaded(model, kind(model, load), log)


def _pointer(array: np.ndarray, kind: type) -> object:
    return ctypes.cast(array.ctypes.data, kind)


def num_seqs(model: Model, load: Load) -> int:
    """Sequence ids of a context: one for each slot, and some to remember old prefixes with.

    They are free for plain attention; a window or a recurrent state takes memory for each (9.1).
    """
    is_free = not (model.window or model.is_recurrent)
    return load.slots + (min(load.slots * 2, MAX_PARKED) if is_free else -(-load.slots // 2))


def _private(name: str, mangled: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of llama-ext.h that the bindings leave out (guide 1.1). Raises LoadFailed."""
    prototype = ctypes.CFUNCTYPE(result, *arguments)
    for symbol in (name, mangled):
        if hasattr(lib._lib, symbol):
            return prototype((symbol, lib._lib))
    raise LoadFailed(f"this build of llama.cpp has no {name}")


def _logits_getter() -> Callable[[object], int | None]:
    """llama_get_logits with a plain address as result: half the price (guide 3.5)."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    return prototype(("llama_get_logits", lib._lib))


def _arm_abort(handle: object) -> ctypes.Array[ctypes.c_char]:
    """A flag that llama.cpp polls through libc's strlen, without the GIL (guide 10.3)."""
    flag = ctypes.create_string_buffer(2)
    strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
    callback = lib.ggml_abort_callback(strlen)
    lib.llama_set_abort_callback(handle, callback, ctypes.cast(flag, ctypes.c_void_p))
    return flag
