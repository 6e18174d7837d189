"""gpt-oss's output: channels, recipients, and what has neither."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.parse.harmony import MARKERS
from outrider.daemon.chat.parse.parser import OutputStart, Parsed, Region
from outrider.daemon.chat.parse.registry import family_of

pytestmark = pytest.mark.unit

TOOLS = tuple(Tool({"type": "function", "function": {"name": name}}) for name in ("a-b", "a.b"))
HEADER = "<|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
COMMENTARY = "<|channel|>commentary<|message|>"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
F = (ToolCall("f", {"x": 1}),)

CASES = [
    (f"{ANALYSIS}hm<|end|>{HEADER}{FINAL}4.<|return|>", Parsed("4.", "hm")),
    (f"{ANALYSIS}hm<|end|>\n{HEADER}{FINAL}4.", Parsed("4.", "hm")),
    (f"{FINAL} a \n", Parsed(" a \n")),
    (f'{ANALYSIS}hm<|end|>{HEADER}{CALL}{{"x": 1}}<|call|>', Parsed("", "hm", F)),
    (f'{CALL}{{"x": 1}}', Parsed(tool_calls=F)),
    (f'{HEADER}{CALL}{{"x": 1}}<|end|>', Parsed(tool_calls=F)),
    (' to=functions.f<|channel|>commentary json<|message|>{"x": 1}<|call|>', Parsed(tool_calls=F)),
    ('<|channel|>commentary to=functions.f<|constrain|>json<|message|>{"x": 1}',
     Parsed(tool_calls=F)),
    (f"{COMMENTARY}First a file.<|end|>{HEADER}{CALL}{{\"x\": 1}}<|call|>",
     Parsed("First a file.", "", F)),
    (f"{CALL}<|call|>", Parsed(tool_calls=(ToolCall("f", {}),))),
    (f"{CALL.replace('functions.f', 'functions.a_b_2')}{{}}",
     Parsed(tool_calls=(ToolCall("a.b", {}),))),
    (f"{CALL.replace('functions.f', 'python')}{{}}", Parsed(tool_calls=(ToolCall("python", {}),))),
    (f'{CALL}{{"x": 1}}<|call|>{HEADER}{CALL}{{"x": 2}}<|call|>',
     Parsed(tool_calls=(*F, ToolCall("f", {"x": 2}, index=1)))),
    (f"{CALL}ls -la<|call|>", Parsed("ls -la")),
    (f'{CALL}{{"x": 1', Parsed('{"x": 1')),
    (f"{CALL}[1]", Parsed("[1]")),
    (f"{ANALYSIS}hm{FINAL}4.", Parsed("4.", "hm")),
    (f"{ANALYSIS}hm{HEADER}{FINAL}4.", Parsed("4.", "hm")),
    (f"{ANALYSIS}hm <|en", Parsed("", "hm <|en")),
    (f"{FINAL}a<|message|>b<|constrain|>c<|end|>", Parsed("abc")),
    ("4.", Parsed("4.")),
    (" 4.<|return|>", Parsed(" 4.")),
    ("to do: a", Parsed("to do: a")),
    (f"{ANALYSIS}hm<|end|>4.", Parsed("4.", "hm")),
    ("<|channel|>final 4.", Parsed("final 4.")),
    ("<|channel|>comment", Parsed()),
    (f"{ANALYSIS}hm<|end|>{HEADER}", Parsed("", "hm")),
    ("<|chan", Parsed("<|chan")),
    ("", Parsed()),
    ("<|end|>\n", Parsed()),
]  # fmt: skip


def split(pieces: Iterable[str], prompt: str = HEADER) -> Parsed:
    parser = family_of("harmony").make(OutputStart(prompt, TOOLS))
    parsed = sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()
    assert parser.finish() == Parsed(), "nothing may come twice"
    return parsed


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_outputs(text: str, expected: Parsed) -> None:
    assert split([text]) == expected
    assert split(text) == expected
    for at in range(len(text)):
        assert split([text[:at], text[at:]]) == expected, text[:at]


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        (f"<|end|>{HEADER}{FINAL}It is ", "4.<|return|>", Parsed("4.")),
        (f"<|end|>{HEADER}{ANALYSIS}", f"hm<|end|>{HEADER}{FINAL}4.", Parsed("4.", "hm")),
        (f"<|end|>{HEADER}{ANALYSIS}hm", f" so<|end|>{HEADER}{FINAL}4.", Parsed("4.", " so")),
        (f"<|end|>{HEADER}{CALL}", '{"x": 1}<|call|>', Parsed(tool_calls=F)),
        (f"<|end|>{HEADER}<|channel|>", "analysis<|message|>hm", Parsed("", "hm")),
        ("<|start|>", f"assistant{FINAL}4.", Parsed("4.")),
        ("<|start|>user<|message|>a<|end|>", f"{HEADER}{FINAL}4.", Parsed("4.")),
        ("", f"{ANALYSIS}hm<|end|>{HEADER}{FINAL}4.", Parsed("4.", "hm")),
        ("Hello", "4.", Parsed("4.")),
    ],
)
def test_the_prompt_may_begin_a_message(prompt: str, text: str, expected: Parsed) -> None:
    assert split([text], prompt) == split(text, prompt) == expected


def test_a_broken_call_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert split([f"{CALL}ls"]) == Parsed("ls")
    assert "becomes content" in caplog.text


def test_regions() -> None:
    parser = family_of("harmony").make(OutputStart(HEADER))
    assert parser.region is Region.CONTENT
    free, content, inside = Region.THINKING, Region.CONTENT, Region.CALL
    steps = [
        ("<|channel|>", free), ("analysis", free), ("<|message|>", free), ("hm", free),
        ("<|end|>", content), ("<|start|>", free), (f"assistant{FINAL}", content), ("a", content),
        (f"<|end|>{HEADER}{CALL}", inside), ("{}", inside), ("<|call|>", content),
    ]  # fmt: skip
    for text, region in steps:
        parser.push(text)
        assert parser.region is region, text


def test_what_is_certain_is_passed_on_at_once() -> None:
    parser = family_of("harmony").make(OutputStart(HEADER))
    assert parser.push(f"{ANALYSIS}one two ") == Parsed("", "one two ")
    assert parser.push("<|e") == Parsed()
    assert parser.push("3") == Parsed("", "<|e3")
    assert parser.push(f"<|end|>{HEADER}{FINAL}a\n") == Parsed("a\n")


FRAGMENTS = [*MARKERS, "assistant", "final", "analysis", "commentary to=functions.f ", "json",
             '{"x": 1}', "a b", " ", "\n", "<|", "<", "|>", "to=", "é"]  # fmt: skip
CUTS = st.lists(st.integers(0, 300), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([text for text, _ in CASES])
    | st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join),
    CUTS,
)
def test_cuts_change_nothing(text: str, places: list[int]) -> None:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    assert split(text[a:b] for a, b in pairwise(edges)) == split([text])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", " ", "\n", "<|", "<", "b|>", *MARKERS[2:]]), max_size=20))
def test_the_text_of_a_message_is_never_lost(words: list[str]) -> None:
    text = "".join(words)
    parsed = split([f"{FINAL}{text}"])
    for marker in MARKERS:
        text = text.replace(marker, "")
    assert "".join(parsed.content.split()) == "".join(text.split())
