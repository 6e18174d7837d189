"""Frames: every message survives the wire, however the bytes arrive."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import msgspec
import pytest
from outrider.daemon.chat.conversation import Conversation, Message, RawPrompt, ToolCall
from outrider.daemon.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    Alternative,
    Cancel,
    Delta,
    Done,
    Embed,
    Embedded,
    Failed,
    FrameReader,
    Hold,
    Limits,
    Load,
    Loading,
    Logprob,
    Ready,
    Sampling,
    Stats,
    Step,
    Submit,
    ToFront,
    ToRunner,
    Working,
    encode,
)

pytestmark = pytest.mark.unit

CALL = ToolCall("weather", {"city": "Köln", "days": [1, None, 2.5], "deep": {"ok": True}}, "id1")
TURNS = (
    Message("user", "Grüße 👋\0"),
    Message("assistant", "", "hm", (CALL,)),
    Message("tool", "20 °C", tool_name="weather", tool_call_id="id1"),
)
TO_RUNNER: list[ToRunner] = [
    Load("/m.gguf", num_ctx=512, cells=2048, slots=4, batch=128),
    Load("/m", 4, 256, 1, 32, gpu_layers=0, main_gpu=1, use_mmap=False, threads=3, kv_type="q8_0"),
    Submit(1, RawPrompt("hello")),
    Submit(
        2**62,
        Conversation(TURNS, think="high"),
        Sampling(temperature=0.0, seed=7),
        Limits(num_predict=5, stop=("a", "b"), truncate=False, shift=False),
        context=(1, 2, 3),
        render_only=True,
    ),
    Submit(4, RawPrompt("x"), schema='{"type": "object"}', num_logprobs=0),
    Submit(
        5, RawPrompt("x"), Sampling(mirostat=2, logit_bias=((7, -1.5), (8, 2.0))), num_logprobs=20
    ),
    Submit(3, Conversation((), think=False)),
    Submit(8, RawPrompt("x"), scored=("A", "B")),
    Embed(6, ("a", "Grüße", ""), num_ctx=512),
    Embed(7, (), 8, truncate=False),
    Cancel(7),
    Hold(7, is_held=True),
    Hold(7, is_held=False),
]
DONE = Done("stop", 10, 9, queue_ns=3, prompt_ns=4, eval_tokens=2, eval_ns=5, context=(5, 6))
LOGPROBS = (
    Logprob(b"\xf0\x9f", -0.5, (Alternative(b"\xf0\x9f", -0.5), Alternative(b"", -1.25))),
    Logprob(b"a", 0.0),
)
STATS = Stats(*range(1, 10))
SCORED = Done("length", 4, eval_tokens=1, scores=(-0.25, -math.inf))
TO_FRONT: list[ToFront] = [
    Loading(0.25),
    Working(2.5),
    Working(None, 7),
    Ready(2**40, 0),
    Step(()),
    Step(
        (
            Delta(1, "a"),
            Delta(2, "", "hm", (ToolCall("f", {"a": [1]}, "c1"),), LOGPROBS),
            Delta(3, "z", done=DONE),
            Delta(8, "A", done=SCORED),
        ),
        STATS,
    ),
    Step((Delta(1, logprobs=LOGPROBS[1:]),)),
    Embedded(6, b"\0\x80\xff" * 4, width=3, prompt_tokens=9),
    Embedded(7, b"", 3, 0),
    Failed(None, "DecodeFailed", "why"),
    Failed(3, "BadRequest", ""),
]


def frames_of(data: bytes, cuts: list[int]) -> list[bytes]:
    frames = FrameReader()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    return [body for piece in pieces for body in frames.feed(piece)]


def test_the_sets_are_tested_whole() -> None:
    assert {type(m) for m in TO_RUNNER} == set(ToRunner.__args__)
    assert {type(m) for m in TO_FRONT} == set(ToFront.__args__)


@pytest.mark.parametrize("message", TO_RUNNER)
def test_a_message_to_the_runner_survives_at_every_cut(message: ToRunner) -> None:
    data = encode(message)
    decoder = msgspec.msgpack.Decoder(ToRunner)
    for cut in range(len(data) + 1):
        assert [decoder.decode(body) for body in frames_of(data, [cut])] == [message]


@pytest.mark.parametrize("message", TO_FRONT)
def test_a_message_to_the_front_survives_at_every_cut(message: ToFront) -> None:
    data = encode(message)
    decoder = msgspec.msgpack.Decoder(ToFront)
    for cut in range(len(data) + 1):
        assert [decoder.decode(body) for body in frames_of(data, [cut])] == [message]


def test_several_messages_come_out_of_one_feed_in_order() -> None:
    data = b"".join(map(encode, TO_RUNNER))
    decoder = msgspec.msgpack.Decoder(ToRunner)
    assert [decoder.decode(body) for body in frames_of(data, [])] == TO_RUNNER


def test_a_stream_cut_at_random_places_is_the_same_stream() -> None:
    rng = random.Random(1)
    messages = [rng.choice(TO_FRONT) for _ in range(50)]
    data = b"".join(map(encode, messages))
    decoder = msgspec.msgpack.Decoder(ToFront)
    for _ in range(50):
        cuts = [rng.randrange(len(data) + 1) for _ in range(rng.randrange(200))]
        assert [decoder.decode(body) for body in frames_of(data, cuts)] == messages


def test_bytes_one_by_one() -> None:
    data = encode(TO_RUNNER[3]) + encode(TO_RUNNER[2])
    assert len(frames_of(data, list(range(len(data))))) == 2


def test_an_unfinished_frame_waits() -> None:
    data = encode(Cancel(7))
    frames = FrameReader()
    assert list(frames.feed(data + data[:-1])) == [data[LENGTH.size :]]
    assert list(frames.feed(b"")) == []
    assert list(frames.feed(data[-1:])) == [data[LENGTH.size :]]


def test_an_empty_body_is_a_frame() -> None:
    assert list(FrameReader().feed(LENGTH.pack(0) * 2)) == [b"", b""]


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_an_absurd_length_is_refused_before_its_body_is_awaited(length: int) -> None:
    frames = FrameReader()
    with pytest.raises(ValueError, match=str(length)):
        list(frames.feed(LENGTH.pack(length)))


def test_frames_before_an_absurd_length_still_come() -> None:
    good = encode(Cancel(1))
    bodies = FrameReader().feed(good + b"HTTP/1.1")
    assert next(bodies) == good[LENGTH.size :]
    with pytest.raises(ValueError, match="longer than"):
        next(bodies)
