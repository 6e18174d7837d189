"""What llama.cpp knows of a model file: weights, vocabulary, and what it says about them."""

from __future__ import annotations

import ctypes
import re
from collections import deque
from collections.abc import Callable
from functools import cached_property

from llama_cpp import llama_cpp as lib

from ...errors import BadRequest, LoadFailed
from ...protocol import Load
from .bindings import private
from .call_stack import call_with_stack

MEAN, CLS, LAST, RANK = (
    lib.LLAMA_POOLING_TYPE_MEAN,
    lib.LLAMA_POOLING_TYPE_CLS,
    lib.LLAMA_POOLING_TYPE_LAST,
    lib.LLAMA_POOLING_TYPE_RANK,
)
LOG_ERROR = 4
# Bytes of stack for each character of a text. Pre-tokenizers whose pattern llama.cpp leaves to
# std::regex (gpt-4o, tekken, deepseek-v3, llama4, minimax-m2 and others) recurse once per character
# of a match: 324 bytes, measured with llama-cpp-python 0.3.36 on x86-64 for letters, blanks,
# digits, signs, marks and emoji alike.
STACK_PER_CHARACTER = 512
# Characters that any thread can tokenize: 2 MB of its stack, which has 8 MB on Linux.
SHALLOW_CHARACTERS = 4096
# Characters of the longest accepted text: 2 GiB of reserved stack. A context of a million tokens
# takes about as many.
MAX_CHARACTERS = 1 << 22
BUFFER_SIZE = re.compile(r"(\S+) (?:model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
ON_HOST = re.compile(r"CPU|_Host")


class LlamaLog:
    """llama.cpp's own words: reasons and sizes are only ever told there (GUIDE 10.4)."""

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


class LlamaModel:
    """Weights and vocabulary."""

    def __init__(
        self, path: str, load: Load, log: LlamaLog, progress: Callable[[float], None] | None = None
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
        """Whether any layer keeps a state that cannot be cut back (GUIDE 4.4)."""
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
        num = private(f"{name}_n", f"_Z30{name}_nPK11llama_model", ctypes.c_uint32, pointer)
        ids = private(name, f"_Z28{name}PK11llama_model", ctypes.POINTER(ctypes.c_int32), pointer)
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
        """Tokens that must never be drawn, such as image placeholders (GUIDE 1.8)."""
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
        Raises BadRequest for a text that is too long.
        """
        if len(text) <= SHALLOW_CHARACTERS:
            return self._tokenize(text, add_bos)
        if len(text) > MAX_CHARACTERS:
            raise BadRequest(_too_long(text, f"at most {MAX_CHARACTERS:,} are accepted"))
        size_bytes = (SHALLOW_CHARACTERS + len(text)) * STACK_PER_CHARACTER
        try:
            return call_with_stack(size_bytes, lambda: self._tokenize(text, add_bos))
        except MemoryError as error:
            raise BadRequest(_too_long(text, "this machine lacks the memory for them")) from error

    def _tokenize(self, text: str, add_bos: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) // 2 + 16
        while True:
            out = (lib.llama_token * room)()
            n = lib.llama_tokenize(self.vocab, data, len(data), out, room, add_bos, True)
            if n >= 0:
                return list(out[:n])
            if n == -(2**31):
                raise BadRequest(_too_long(text, "their tokens cannot be counted"))
            room = -n


def _too_long(text: str, reason: str) -> str:
    return f"a text of {len(text):,} characters is too long: {reason}; shorten it"
