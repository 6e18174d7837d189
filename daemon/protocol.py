"""What the front and a runner say to each other; this set is closed.

A frame is a 4-byte little-endian length and one msgpack-encoded message. The first frame to a
runner is `Load`; it answers `Loading` until `Ready` or `Failed`. After that the front sends
`Submit` and `Cancel`, the runner one `Step` for each step of its engine. Every submitted id ends
with exactly one `Delta` that has `done`, or one `Failed`. A runner that was loaded for embeddings
gets `Embed` instead of `Submit`; such an id ends with one `Embedded`, or one `Failed`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from .chat.conversation import Conversation, RawPrompt, ToolCall

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 1 << 30
MAX_DRAFTS = 48  # tokens that are guessed for one stream in one step
MAX_MODEL_DRAFTS = 16  # of these, by a drafter with weights


class Load(msgspec.Struct, frozen=True, tag=True):
    """Which weights, and how much memory to give them."""

    model: str
    num_ctx: int  # tokens that one sequence may hold
    cells: int  # KV cells that all slots share
    slots: int
    batch: int  # rows of one decode: n_batch and n_ubatch
    gpu_layers: int = -1  # -1: as many as fit
    main_gpu: int | None = None
    use_mmap: bool | None = None
    threads: int = 0  # 0: one for each physical core
    kv_type: str = "f16"  # of the KV cache, by ggml's name
    draft: str = ""  # weights of a drafter; "" if there are none
    mtp: bool = False  # the weights themselves hold a head that drafts, and it is wanted
    speculation: int | None = None  # tokens to draft at a time; None: as many as pay; 0: none
    profile: str = ""  # file of what was learned about speculation here; "": it is not kept
    host_cache_bytes: int = 0  # of host memory, for prefixes that others took the cells of
    embedding: bool = False  # vectors instead of text; `slots` is the texts of one decode


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is drawn; names and meaning as in CONTRACT 1.5."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1
    mirostat: int = 0  # 1 or 2: its version
    mirostat_tau: float = 5.0  # bits of surprise to aim at
    mirostat_eta: float = 0.1  # learning rate
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token, added to its logit)


class Limits(msgspec.Struct, frozen=True):
    """When a sequence ends, and what may be cut to make it fit."""

    num_predict: int = -1
    num_keep: int = 4
    stop: tuple[str, ...] = ()
    truncate: bool = True  # drop old messages that do not fit
    shift: bool = True  # forget the oldest tokens when the context is full


class Submit(msgspec.Struct, frozen=True, tag=True):
    """A request for text."""

    id: int
    prompt: Conversation | RawPrompt
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    template: str = ""  # Jinja chat template instead of the model's own; "": the model's own
    parser: str = ""  # output parser by name (chat.parse); "": the one that the template implies
    context: tuple[int, ...] = ()  # tokens of an earlier answer, put before the prompt
    schema: str = ""  # JSON schema that the answer follows
    num_logprobs: int | None = None  # alternatives to tell with each token; None: tell nothing
    render_only: bool = False
    draft_limit: int | None = None  # tokens to draft at a time; None: as many as pay; 0: none
    draft_fixed: int | None = None  # so many, whether they pay or not


class Embed(msgspec.Struct, frozen=True, tag=True):
    """A request for the vectors of texts."""

    id: int
    texts: tuple[str, ...]
    num_ctx: int  # tokens of one text at most, with those that the tokenizer puts around it
    truncate: bool = True  # cut what is longer; otherwise it is refused


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """The client went away: free the slot."""

    id: int


class Loading(msgspec.Struct, frozen=True, tag=True):
    """The load goes on; sent now and then."""

    fraction: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is up."""

    size_bytes: int  # weights, KV cache and compute buffers on all devices
    size_vram_bytes: int
    drafters: tuple[str, ...] = ()  # who reads ahead
    refusal: str = ""  # why the drafter that was asked for does not


class SpeculationReport(msgspec.Struct, frozen=True):
    """What reading ahead did for one request."""

    drafter: str
    drafted: int
    accepted: int
    mean_length: float  # of the drafts that were made
    speedup: float  # against plain decoding on this machine, estimated


class Done(msgspec.Struct, frozen=True):
    """How a sequence ended, and what it cost."""

    reason: str  # "stop", "length", "cancel" or "render"
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt; the KV cache had them already
    queue_ns: int = 0
    prompt_ns: int = 0
    eval_tokens: int = 0
    eval_ns: int = 0
    context: tuple[int, ...] = ()
    speculation_report: SpeculationReport | None = None  # None: nothing was drafted


class Alternative(msgspec.Struct, frozen=True):
    """A token that could have been drawn."""

    piece: bytes
    logprob: float  # natural, over the whole vocabulary


class Logprob(msgspec.Struct, frozen=True):
    """A token that was drawn, and the best ones that could have been."""

    piece: bytes
    logprob: float
    top: tuple[Alternative, ...] = ()


class Delta(msgspec.Struct, frozen=True):
    """What one step added to one sequence."""

    id: int
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    done: Done | None = None


class Stats(msgspec.Struct):
    """What the runner has done since it started, and how full it is now."""

    steps: int = 0
    step_ns: int = 0
    decode_ns: int = 0  # of step_ns, inside llama.cpp
    prompt_tokens: int = 0  # evaluated
    cached_tokens: int = 0  # not evaluated, because the KV cache had them
    decoded_tokens: int = 0
    preempted: int = 0  # times that a sequence had to wait again: no cells, or a shifted context
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    drafts: int = 0  # times that something was drafted for a stream
    speculated_ns: int = 0  # of all streams, in steps with drafters; ...
    plain_ns: int = 0  # ... and what the same tokens would have taken without, estimated
    expected_ns: int = 0  # of decoding, in steps that were forecast; ...
    misjudged_ns: int = 0  # ... and by how much these forecasts were wrong, too long or too short
    slots_busy: int = 0
    waiting: int = 0
    cells_used: int = 0


class Step(msgspec.Struct, frozen=True, tag=True):
    """What one step of the engine added to all its sequences."""

    deltas: tuple[Delta, ...]
    stats: Stats | None = None


class Embedded(msgspec.Struct, frozen=True, tag=True):
    """The vectors of one request, as the model pools them: not normalised."""

    id: int
    vectors: bytes  # float32, little-endian, a row for each text in the order of the request
    width: int  # floats of one row
    prompt_tokens: int  # evaluated, all texts together


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A request (or, with no id, the runner itself) failed."""

    id: int | None
    kind: str  # a class name of errors.py
    text: str


ToRunner = Load | Submit | Embed | Cancel
ToFront = Loading | Ready | Step | Embedded | Failed


def encode(message: ToRunner | ToFront) -> bytes:
    """One frame, ready for the socket."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into message bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies completed by these bytes. Raises ValueError for an absurd length."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes is not ours")
            if len(self._buffer) < LENGTH.size + length:
                return
            yield bytes(memoryview(self._buffer)[LENGTH.size : LENGTH.size + length])
            del self._buffer[: LENGTH.size + length]
