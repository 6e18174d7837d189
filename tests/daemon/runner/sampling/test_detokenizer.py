"""Text: whole characters only, and never a part of a stop string, however the bytes arrive."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from outrider.daemon.runner.sampling.detokenizer import Detokenizer

pytestmark = pytest.mark.unit

# stop strings, bytes, text, stopped
CASES: list[tuple[tuple[str, ...], bytes, str, bool]] = [
    ((), b"plain", "plain", False),
    ((), "aü€👋z".encode(), "aü€👋z", False),
    ((), b"a\xffb", "a\ufffdb", False),
    ((), b"a\xe2\x82", "a\ufffd", False),
    ((), b"", "", False),
    (("",), b"an empty stop stops nothing", "an empty stop stops nothing", False),
    (("STOP",), b"go STOP on", "go ", True),
    (("STOP",), b"STOP", "", True),
    (("STOP",), b"go STO", "go STO", False),
    (("STOP",), b"STOSTOP", "STO", True),
    (("aab",), b"aaaab", "aa", True),
    (("abab",), b"xababab", "x", True),
    (("\n\n",), b"a\nb\n\nc", "a\nb", True),
    (("€",), "aü€b".encode(), "aü", True),
    (("👋!",), "a👋b👋!c".encode(), "a👋b", True),
    (("one", "two"), b"a two one", "a ", True),
    (("one", "two"), b"a one two", "a ", True),
    (("<|end|>", "<|im_end|>"), b"x<|im_end|>", "x", True),
    (("ab", "xaby"), b"-xaby", "-x", True),
    (("bcd", "abcx"), b"abcd", "a", True),
    (("bc", "abc"), b"-abc", "-", True),
    (("b", "ab"), b"-ab-", "-", True),
    (("\ufffd",), b"a\xffb", "a", True),
]


def run(stops: Sequence[str], pieces: Iterable[bytes]) -> tuple[str, bool]:
    stream = Detokenizer(stops)
    text = "".join([*[stream.push(piece) for piece in pieces], stream.finish()])
    assert stream.finish() == "", "nothing may come twice"
    return text, stream.stopped


@pytest.mark.parametrize(("stops", "data", "text", "stopped"), CASES)
def test_in_one_piece(stops: Sequence[str], data: bytes, text: str, stopped: bool) -> None:
    assert run(stops, [data]) == (text, stopped)


@pytest.mark.parametrize(("stops", "data", "text", "stopped"), CASES)
def test_two_cuts_anywhere_change_nothing(
    stops: Sequence[str], data: bytes, text: str, stopped: bool
) -> None:
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            pieces = [data[:first], data[first:second], data[second:]]
            assert run(stops, pieces) == (text, stopped), pieces


@pytest.mark.parametrize(("stops", "data", "text", "stopped"), CASES)
def test_one_byte_at_a_time_changes_nothing(
    stops: Sequence[str], data: bytes, text: str, stopped: bool
) -> None:
    assert run(stops, [bytes([byte]) for byte in data]) == (text, stopped)


def test_random_texts_cut_at_random_places() -> None:
    rng = random.Random(1)
    for _ in range(1000):
        data = "".join(rng.choice("abü👋") for _ in range(rng.randrange(16))).encode()
        stops = ["".join(rng.choice("abü👋") for _ in range(rng.randint(1, 4))) for _ in range(3)]
        whole = run(stops, [data])
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(8)))
        edges = [0, *cuts, len(data)]
        pieces = [data[a:b] for a, b in pairwise(edges)]
        assert run(stops, pieces) == whole, (stops, pieces)
        text, stopped = whole
        assert not any(stop in text for stop in stops)
        assert stopped or text == data.decode()


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    stream = Detokenizer(["</end>"])
    assert stream.push(b"a <") == "a "
    assert stream.push(b"/") == ""
    assert stream.push(b"b") == "</b"
    assert stream.push(b"</en") == ""
    assert stream.finish() == "</en"


def test_half_a_character_waits_for_the_other_half() -> None:
    stream = Detokenizer(())
    euro = "€".encode()
    assert [stream.push(euro[:1]), stream.push(euro[1:2]), stream.push(euro[2:])] == ["", "", "€"]


def test_after_a_stop_nothing_comes_out() -> None:
    stream = Detokenizer(["."])
    assert stream.push(b"one. two") == "one"
    assert stream.stopped
    assert stream.push(b" three.") == ""
    assert stream.finish() == ""


def test_a_stop_completed_by_the_end_of_the_text_counts() -> None:
    stream = Detokenizer(["a\ufffd"])
    assert stream.push(b"xa\xe2") == "x"
    assert stream.finish() == ""
    assert stream.stopped
