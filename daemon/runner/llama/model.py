"""What is in a model file, as llama.cpp loads it: weights, vocabulary, metadata?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cached_property

from llama_cpp import llama_cpp as lib
from llguidance import LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab

from ...errors import BadRequest, LoadFailed
from ...protocol import Load
from .bindings import private
from .byte_tokens import read_characters
from .call_stack import call_with_stack
from .interface import MEAN
from .log import HOST, LlamaLog
from .placement import DevicePlacement
from .weights import load_weights

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


class LlamaModel:
    """Weights and vocabulary."""

    def __init__(
        self,
        path: str,
        load: Load,
        log: LlamaLog,
        placement: DevicePlacement,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Raises LoadFailed with llama.cpp's own reason."""

        def report(fraction: float, _user: object) -> bool:
            if progress:
                progress(fraction)
            return True

        params = lib.llama_model_default_params()
        self._placement = placement.apply(params)  # llama.cpp reads it until the weights are freed
        params.load_mtp = load.mtp
        if load.use_mmap is not None:
            modes = (lib.LLAMA_LOAD_MODE_NONE, lib.LLAMA_LOAD_MODE_MMAP)
            params.load_mode = modes[load.use_mmap]
        callback = lib.llama_progress_callback(report)
        params.progress_callback = callback
        weights = load_weights(path, params)
        self.handle = weights.handle
        if not self.handle:
            raise LoadFailed(f"unable to load model {path}: {log.cause}")
        log.limit_mapped(int(lib.llama_model_size(self.handle)), weights.copied_bytes)
        self._log = log  # llama.cpp writes to it until the process ends
        self._read_shape()
        self._read_vocabulary()

    def _read_shape(self) -> None:
        h = self.handle
        self.architecture = self._metadata("general.architecture")  # "llama", "gemma4-assistant"
        self.train_ctx = int(lib.llama_model_n_ctx_train(h))
        self.is_recurrent = bool(lib.llama_model_is_recurrent(h) or lib.llama_model_is_hybrid(h))
        self.window = int(lib.llama_model_n_swa(h))
        self.num_layers = int(lib.llama_model_n_layer(h))
        self.width = int(lib.llama_model_n_embd(h))  # floats of a row between its layers
        self.hidden_width = int(lib.llama_model_n_embd_out(h))
        self.pooling = int(self._metadata(f"{self.architecture}.pooling_type") or 0) or MEAN
        # Width of the targets that an EAGLE-3 head was trained for; 0 in other models.
        self.target_width = int(self._metadata(f"{self.architecture}.target_hidden_size") or 0)

    def _read_vocabulary(self) -> None:
        vocab = self.vocab = lib.llama_model_get_vocab(self.handle)
        self.num_tokens = int(lib.llama_vocab_n_tokens(vocab))
        self._writable = read_characters(vocab, self.num_tokens)
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(vocab))
        self.bos, self.eos = int(lib.llama_vocab_bos(vocab)), int(lib.llama_vocab_eos(vocab))
        count = ctypes.c_int32(0)
        ids = lib.llama_vocab_get_suppress_tokens(vocab, ctypes.byref(count))
        self.suppressed = tuple(ids[i] for i in range(count.value))
        template = lib.llama_model_chat_template(self.handle, None)
        self.chat_template = template.decode("utf-8", "replace") if template else None
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def close(self) -> None:
        """Free the weights, after every context on them."""
        lib.llama_model_free(self.handle)

    @property
    def is_on_gpu(self) -> bool:
        """Whether the cache of any layer of the target is in a GPU's memory."""
        layers = range(self.num_layers)
        return any(self._log.layer_devices.get(layer, HOST) != HOST for layer in layers)

    @property
    def shared_cache_devices(self) -> tuple[str, str]:
        """ggml's names of the devices of the last two layers that have a cache; an assistant reads
        both, the last one with full attention, the other with a window (GUIDE 2.1)."""
        shared = self.number(f"{self.architecture}.attention.shared_kv_layers")
        last = self.num_layers - shared - 1
        devices = self._log.layer_devices
        return devices.get(last, HOST), devices.get(last - 1, HOST)

    @cached_property
    def target_layers(self) -> tuple[int, ...]:
        """The target's layers whose input an EAGLE-3 head reads; the number of all layers stands
        for the output of the last one. Raises LoadFailed."""
        name, pointer = "llama_model_target_layer_ids", ctypes.c_void_p
        num = private(f"{name}_n", f"_Z30{name}_nPK11llama_model", ctypes.c_uint32, pointer)
        ids = private(name, f"_Z28{name}PK11llama_model", ctypes.POINTER(ctypes.c_int32), pointer)
        return tuple(ids(self.handle)[: num(self.handle)])

    def number(self, key: str) -> int:
        """An integer of the GGUF header; 0 if the key is missing."""
        return int(self._metadata(key) or 0)

    def _metadata(self, key: str) -> str:
        """A short value of the GGUF header as text; "" if the key is missing."""
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def grammar_tokenizer(self) -> LLTokenizer:
        """The vocabulary in the form that llguidance needs; a slow call (about 1 s).

        Raises ValueError for a vocabulary that cannot write every text: llguidance tokenizes what a
        grammar prescribes.
        """
        if not self._writable.are_all:
            raise ValueError("its vocabulary cannot write every character")
        return lltokenizer_from_vocab(self.vocab)

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
        Raises BadRequest for a text that is too long, or that the vocabulary cannot write.
        """
        self._writable.check(text)
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
