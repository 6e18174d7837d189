"""Which messages do the front and a runner exchange? This set is closed.

A frame is a 4-byte little-endian length and one msgpack-encoded message. The first frame to a
runner is `Load`; it answers `Loading` until `Ready` or `Failed`. After that the front sends
`Submit`, `Cancel` and `Hold`, the runner at most one `Step` for each step of its engine; `Working`
tells the front of a request that was received, and of steps that take long. Every submitted
id ends with exactly one `Delta` that has `done`, or one `Failed`. A runner that was loaded for
embeddings gets `Embed` instead of `Submit`; such an id ends with one `Embedded` or `Failed`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from .chat.conversation import Prompt, ToolCall
from .chat.format import ChatFormat

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 1 << 30  # a longer frame is taken for a broken stream
MAX_DRAFTS = 48  # draft tokens for one stream in one step, by any drafter
MAX_MODEL_DRAFTS = 16  # the same, by a drafter with weights
# Upper bounds of the histogram of the time per token, seconds; one bucket more has no bound.
TOKEN_GAP_BOUNDS_S = (
    *(0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 10.0, 60.0),
)


class Load(msgspec.Struct, frozen=True, tag=True):
    """Which weights, and how much memory to give them."""

    model: str
    num_ctx: int  # tokens of one sequence at most
    cells: int  # KV cells that all slots share
    slots: int
    batch: int  # rows of one decode at most: n_batch and n_ubatch
    gpu_layers: int = -1  # -1: as many as fit
    main_gpu: int | None = None
    tensor_split: tuple[float, ...] = ()  # share of the layers of each GPU; (): llama.cpp chooses
    host_experts: int = 0  # layers from the first on whose expert tensors stay on the host
    use_mmap: bool | None = None
    bind_threads: bool = False  # one thread per core of `places`
    places: str = "cores"  # where threads are bound, as OMP_PLACES
    background: bool = False  # let other programs go first
    threads: int = 0  # 0: one for each physical core
    adapts_threads: bool = False  # fewer threads may decode beside busy processes
    kv_type: str = "f16"  # ggml's name of the type of the KV cache
    adapters: tuple[str, ...] = ()  # paths of LoRA files over the weights
    draft: str = ""  # path of a drafter's weights; "" if there are none
    mtp: bool = False  # use the MTP head in the model's own weights as drafter
    speculation: int | None = None  # draft tokens per step; None: as many as pay; 0: none
    profile: str = ""  # path of the speculation profile; "": it is not kept
    host_cache_bytes: int = 0  # host memory for evicted prefixes
    host_bytes: int = 0  # memory of the host that is expected to suffice; 0: unknown
    confined: bool = True  # without the rights that a runner does not need
    embedding: bool = False  # vectors instead of text; `slots`: texts of one decode
    flash_attention: bool | None = None  # None: llama.cpp chooses


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is sampled; names and meaning as in CONTRACT 1.5."""

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
    """When a sequence ends, and how it may be shortened to fit the context."""

    num_predict: int = -1
    num_keep: int = 4
    stop: tuple[str, ...] = ()
    truncate: bool = True  # drop old messages that do not fit
    shift: bool = True  # drop the oldest tokens when the context is full
    num_ctx: int = 0  # tokens of context at most; 0: as many as the model is loaded with


class Submit(msgspec.Struct, frozen=True, tag=True):
    """A request for text."""

    id: int
    prompt: Prompt
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    format: ChatFormat = ChatFormat()  # how the prompt is worded and the output read
    context: tuple[int, ...] = ()  # tokens of an earlier answer, put before the prompt
    schema: str = ""  # JSON schema that the answer follows
    num_logprobs: int | None = None  # alternatives for each token; None: no logprobs
    scored: tuple[str, ...] = ()  # words whose probability as the first token is wanted
    render_only: bool = False
    draft_limit: int | None = None  # draft tokens per step at most; None: as many as pay
    draft_fixed: int | None = None  # draft tokens per step, whether they pay or not


class Embed(msgspec.Struct, frozen=True, tag=True):
    """A request for the vectors of texts."""

    id: int
    texts: tuple[str, ...]
    num_ctx: int  # tokens of a text at most, with the tokenizer's own; 0: as many as are loaded
    truncate: bool = True  # shorten longer texts; False: refuse them


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """The client is gone: free the slot."""

    id: int


class Hold(msgspec.Struct, frozen=True, tag=True):
    """The client of a stream is slow: others get its slot until it has taken what there is."""

    id: int
    is_held: bool


class Loading(msgspec.Struct, frozen=True, tag=True):
    """Progress of a load, between 0 and 1."""

    fraction: float


class DeviceBytes(msgspec.Struct, frozen=True):
    """What a loaded model has allocated on one device, as llama.cpp reports it, by part."""

    device: str  # llama.cpp's name: "CPU", "CUDA0"
    is_gpu: bool
    weights_bytes: int = 0
    cache_bytes: int = 0  # KV cache and recurrent states
    compute_bytes: int = 0  # compute and output buffers
    adapter_bytes: int = 0
    drafter_bytes: int = 0  # all of the drafter

    @property
    def total_bytes(self) -> int:
        parts = (self.weights_bytes, self.cache_bytes, self.compute_bytes)
        return sum(parts) + self.adapter_bytes + self.drafter_bytes


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded."""

    size_bytes: int  # weights, KV cache and compute buffers on all devices
    size_vram_bytes: int
    drafters: tuple[str, ...] = ()  # names of the active drafters
    refusal: str = ""  # why the requested drafter is not used; "": it is
    devices: tuple[DeviceBytes, ...] = ()


class SpeculationReport(msgspec.Struct, frozen=True):
    """The effect of speculative decoding on one request."""

    drafter: str
    drafted: int  # draft tokens
    accepted: int  # draft tokens
    mean_length: float  # draft tokens per draft
    speedup: float  # over plain decoding on this machine, estimated


class Done(msgspec.Struct, frozen=True):
    """How a sequence ended, and what it took."""

    reason: str  # "stop", "length", "cancel" or "render"
    prompt_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens that were in the KV cache
    queue_ns: int = 0
    prompt_ns: int = 0
    eval_tokens: int = 0
    eval_ns: int = 0
    context: tuple[int, ...] = ()
    stop: str = ""  # the stop string that ended it; "": none did
    scores: tuple[float, ...] = ()  # logprobs of the `scored` words of the request
    speculation_report: SpeculationReport | None = None  # None: nothing was drafted


class Alternative(msgspec.Struct, frozen=True):
    """A token that could have been sampled."""

    piece: bytes
    logprob: float  # natural logarithm, over the whole vocabulary


class Logprob(msgspec.Struct, frozen=True):
    """A sampled token, and the most likely alternatives."""

    piece: bytes
    logprob: float
    top: tuple[Alternative, ...] = ()


class Started(msgspec.Struct, frozen=True):
    """The prompt of a sequence as it was accepted, before its first token."""

    prompt_tokens: int
    dropped_messages: int = 0  # old messages that did not fit the context
    cut_tokens: int = 0  # of the rest, cut out of its middle because it did not fit either


class Delta(msgspec.Struct, frozen=True):
    """What the steps since the last delta added to one sequence."""

    id: int
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    done: Done | None = None
    started: Started | None = None  # in the first delta only


class DrafterStats(msgspec.Struct, frozen=True):
    """What the drafts of one drafter did since the runner started."""

    name: str
    drafts: int  # of one stream in one step
    drafted: int  # draft tokens
    accepted: int  # draft tokens
    took_ns: int  # time of the streams in steps with such a draft
    plain_ns: int  # time of the same tokens with plain decoding, estimated


class DrafterCounts(msgspec.Struct, frozen=True):
    """The drafts of one drafter since the runner started, by the depth of their tokens."""

    name: str
    verified: tuple[int, ...]  # draft tokens at this depth before which all were accepted
    accepted: tuple[int, ...]  # those of them that were accepted


class RowCost(msgspec.Struct, frozen=True):
    """What a decode of so many rows takes on this machine, measured."""

    rows: int
    seconds: float


class SpeculationDetail(msgspec.Struct, frozen=True):
    """What speculation knows and does; sent at most once a second, and when a runner falls idle."""

    drafters: tuple[DrafterCounts, ...] = ()
    verify_costs: tuple[RowCost, ...] = ()  # of the target
    draft_costs: tuple[RowCost, ...] = ()  # of the drafter with weights


class Stats(msgspec.Struct):
    """Counters since the runner started, and gauges of its slots and cells."""

    steps: int = 0
    step_ns: int = 0
    decode_ns: int = 0  # the part of step_ns inside llama.cpp
    prompt_tokens: int = 0  # evaluated ones
    cached_tokens: int = 0  # prompt tokens that were in the KV cache
    decoded_tokens: int = 0
    preempted: int = 0  # preemptions of sequences: no cells, or a context shift
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    drafts: int = 0  # drafts of one stream in one step
    speculated_ns: int = 0  # time of all streams in steps with drafters
    plain_ns: int = 0  # time of the same tokens with plain decoding, estimated
    expected_ns: int = 0  # decode time that the step-cost model predicted
    misjudged_ns: int = 0  # sum of the absolute errors of these predictions
    slots_busy: int = 0
    waiting: int = 0
    cells_used: int = 0
    gap_counts: tuple[int, ...] = ()  # tokens after the first, by TOKEN_GAP_BOUNDS_S
    gap_ns: int = 0  # between the first and the newest token, of all streams
    drafters: tuple[DrafterStats, ...] = ()
    detail: SpeculationDetail | None = None  # None: the last one that was sent still holds


class Working(msgspec.Struct, frozen=True, tag=True):
    """Something begins that sends nothing before its end: a sign of progress."""

    expected_s: float | None = None  # seconds that it should take; None: nobody knows
    id: int | None = None  # of the request that is received and prepared; None: it is a step


class Step(msgspec.Struct, frozen=True, tag=True):
    """One step of the engine: what it added to its sequences."""

    deltas: tuple[Delta, ...]
    stats: Stats | None = None


class Embedded(msgspec.Struct, frozen=True, tag=True):
    """The vectors of one request as the model pools them, not normalised."""

    id: int
    vectors: bytes  # float32, little-endian, one row for each text in the order of the request
    width: int  # floats of one row
    prompt_tokens: int  # evaluated tokens of all texts


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A request (or, with no id, the runner itself) failed."""

    id: int | None
    kind: str  # a class name of errors.py
    text: str


ToRunner = Load | Submit | Embed | Cancel | Hold
ToFront = Loading | Ready | Working | Step | Embedded | Failed


def encode(message: ToRunner | ToFront) -> bytes:
    """One wire frame."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body


class FrameReader:
    """Splits a byte stream into message bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that these bytes complete. Raises ValueError for an absurd length."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
            if len(self._buffer) < LENGTH.size + length:
                return
            yield bytes(memoryview(self._buffer)[LENGTH.size : LENGTH.size + length])
            del self._buffer[: LENGTH.size + length]
