"""Gemma 4's output: the table of CONTRACT 8.7, and the same events however it is cut."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.parse.gemma4 import GEMMA4_MARKERS
from outrider.daemon.chat.parse.parser import OutputStart, Parsed, Region
from outrider.daemon.chat.parse.registry import family_of

pytestmark = pytest.mark.unit

Q = '<|"|>'
OPEN, CLOSE = "<|tool_call>", "<tool_call|>"
BASH = Tool({"type": "function", "function": {"name": "bash", "parameters": {
    "type": "object", "properties": {
        "command": {"type": "string"}, "timeout": {"type": "integer"},
        "cwd": {"type": ["string", "null"]}}}}})  # fmt: skip

# think, text, thinking, content
TEXTS = [
    (True, "<|channel>thought\nLet me think<channel|>The answer is 42.",
     "Let me think", "The answer is 42."),
    (True, "<|channel>first thought<channel|><|channel>second thought<channel|>Final answer.",
     "first thoughtsecond thought", "Final answer."),
    (True, "<|channel>thought\n a \n <channel|> \n b ", " a", "b "),
    (True, "<|channel>thought\na b\n", "a b\n", ""),
    (True, "<|channel>thou<channel|>b", "thou", "b"),
    (True, "<|channel>thought\n<channel|>b", "", "b"),
    (True, "<|channel>thought\nthought\n<channel|>b", "thought", "b"),
    (True, "a <|channel>thought\nb<channel|> c", "b", "ac"),
    (True, "<|channel>thought\na<|channel>thought\nb<channel|>c", "ab", "c"),
    (True, "<|channel>thought\na <chan", "a <chan", ""),
    (True, "a <|chan", "", "a <|chan"),
    (True, " a <|channe l> \n", "", " a <|channe l> \n"),
    (True, "", "", ""),
    (True, " \n", "", " \n"),
    (True, "a<channel|> b<tool_call|>\n<|tool_response>c<|\"|>d", "", "a b\ncd"),
    (False, "<|channel>thought\nLet me think<channel|>The answer is 42.", "", "The answer is 42."),
    (False, "<|channel>thought\nLet me think", "", ""),
    (None, "<|channel>thought\n<channel|>Yes", "", "Yes"),
]  # fmt: skip

# the text between the name and the closing marker, the arguments
ARGUMENTS: list[tuple[str, dict[str, object]]] = [
    ("{location:QParisQ,units:QmetricQ}", {"location": "Paris", "units": "metric"}),
    ('{items:[QaQ,Qb "quoted"Q]}', {"items": ["a", 'b "quoted"']}),
    ("{config:{enabled:true,name:QtestQ}}", {"config": {"enabled": True, "name": "test"}}),
    ("{value:null,nested:{value:null}}", {"value": None, "nested": {"value": None}}),
    ("{pattern:'abc'Q}", {"pattern": "abc"}),
    ("{pattern:'abc'}", {"pattern": "abc"}),
    ("{pattern:'I don't', x:QyQ}", {"pattern": "I don't", "x": "y"}),
    ("{command:Qls}", {"command": "ls"}),
    ("{command:Qls", {"command": "ls"}),
    ("{command:QlsQ", {"command": "ls"}),
    ("{a:{b:Qls}}", {"a": {"b": "ls"}}),
    ("{a:[Qls]}", {"a": ["ls"]}),
    ("{command:Qf() {}}", {"command": "f() {}"}),
    ("{}", {}),
    ("{ }", {}),
    ("{n:1,f:2.5,e:-1e3,b:false}", {"n": 1, "f": 2.5, "e": -1000.0, "b": False}),
    (r"{path:QC:\usersQ}", {"path": r"C:\users"}),
    (r"{path:Q\u2603Q}", {"path": r"\u2603"}),
    (r'{path:"\u2603 {a:1}"}', {"path": "☃ {a:1}"}),
    ("{text:Qa\n\tbQ}", {"text": "a\n\tb"}),
    ("{text:Q{a:1,b:[}Q}", {"text": "{a:1,b:[}"}),
    ("{ a : 1 , b_2 : QxQ }", {"a": 1, "b_2": "x"}),
    ("{Content-Type:QxQ,ключ:1}", {"Content-Type": "x", "ключ": 1}),
    ("{QkeyQ:1}", {"key": 1}),
    (r'{a:"\ud800"}', {"a": "\ufffd"}),
    ('{"key":"v"}', {"key": "v"}),
    ("{a:[[1,2],[]],b:{}}", {"a": [[1, 2], []], "b": {}}),
    ("{command:ls -la}", {"command": "ls -la"}),
    ("{command:ls -la, b:c,timeout:3}", {"command": "ls -la, b:c", "timeout": 3}),
    ("{timeout:3,command:ls -la", {"timeout": 3, "command": "ls -la"}),
    ("{cwd:/tmp,command:QlsQ}", {"cwd": "/tmp", "command": "ls"}),
]

UNREADABLE = [
    "call:bash{command:12 a}",
    "call:bash{timeout:ls}",
    "call:bash{command:QlsQ} and more",
    "call:bash[1]",
    "call:bash",
    "bash{command:QlsQ}",
    "call:{}",
    "call:bash{a:NaN}",
    "call:bash" + "{a:" * 3000,
    "{}",
    "hm",
]


def split(
    pieces: Iterable[str],
    *,
    think: bool | str | None = True,
    name: str = "gemma4",
    tools: Sequence[Tool] = (BASH,),
    prompt: str = "",
) -> Parsed:
    parser = family_of(name).make(OutputStart(prompt, tools, think))
    parsed = sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()
    assert parser.finish() == Parsed(), "nothing may come twice"
    return parsed


def call(arguments: str) -> str:
    return f"{OPEN}call:bash{arguments.replace('Q', Q)}{CLOSE}"


@pytest.mark.parametrize(("think", "text", "thinking", "content"), TEXTS)
def test_thoughts_and_content(think: bool | None, text: str, thinking: str, content: str) -> None:
    expected = Parsed(content, thinking)
    assert split([text], think=think) == expected
    assert split(text, think=think) == expected
    for at in range(len(text)):
        assert split([text[:at], text[at:]], think=think) == expected, text[:at]


@pytest.mark.parametrize(("text", "arguments"), ARGUMENTS)
def test_arguments(text: str, arguments: dict[str, object]) -> None:
    expected = Parsed(tool_calls=(ToolCall("bash", arguments),))
    assert split([call(text)]) == expected
    assert split(call(text)) == expected


@pytest.mark.parametrize(("text", "arguments"), ARGUMENTS)
def test_a_call_that_the_end_cuts_off(text: str, arguments: dict[str, object]) -> None:
    expected = Parsed(tool_calls=(ToolCall("bash", arguments),))
    assert split([call(text).removesuffix(CLOSE)]) == expected
    if text.endswith("}"):
        assert split([call(text)[:-1]]) == expected


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_call_that_cannot_be_read_becomes_content(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = text.replace("Q", Q)
    with caplog.at_level(logging.WARNING):
        parsed = split([f"a {OPEN}{text}{CLOSE} b"])
    assert parsed == Parsed(f"a{text.replace(Q, '')}b")
    assert "becomes content" in caplog.text


def test_calls_are_numbered_and_what_stands_between_them_is_dropped() -> None:
    text = (
        f"Look: \n{call('{}')}\n{CLOSE}{call('{command:QaQ}')}<|tool_response>\n"
        f"done{call('{}')}<|tool_response>"
    )
    expected = Parsed("Look:done", "", (
        ToolCall("bash", {}, index=0), ToolCall("bash", {"command": "a"}, index=1),
        ToolCall("bash", {}, index=2)))  # fmt: skip
    assert split([text]) == split(text) == expected


def test_a_call_ends_a_thought_that_was_not_closed() -> None:
    expected = Parsed("", "hm", (ToolCall("bash", {}),))
    assert split([f"<|channel>thought\nhm \n{call('{}')}<channel|>"]) == expected
    calls = Parsed("", "", expected.tool_calls)
    assert split([f"<|channel>thought\nhm \n{call('{}')}"], think=False) == calls


def test_the_prompt_may_open_a_thought() -> None:
    prompt = "<tool_response|><|channel>thought\n"
    assert split(["hm \n<channel|>\nyes"], prompt=prompt) == Parsed("yes", "hm")
    assert split(["yes"], prompt=f"{prompt}hm<channel|>") == Parsed("yes")
    assert split([" so<channel|>yes"], prompt=f"{prompt}hm") == Parsed("yes", " so")
    assert split(["so<channel|>yes"], prompt=prompt, think=None) == Parsed("yes")
    user = "<|turn>user\nWhat is\n<|channel>thought\n?<turn|>\n<|turn>model\n"
    assert split(["yes"], prompt=user) == Parsed("yes")


def test_the_parser_without_thinking_discards_thoughts() -> None:
    family = family_of("gemma4-no-thinking")
    assert not family.thinks
    assert family.calls
    assert split(["<|channel>thought\nhm<channel|>yes"], name="gemma4-no-thinking") == Parsed("yes")


def test_regions() -> None:
    parser = family_of("gemma4").make(OutputStart(think=True))
    regions = []
    for piece in (
        "<|channel>",
        "thought\n",
        "hm",
        "<channel|>",
        "\n",
        "a",
        OPEN,
        "call:f{}",
        CLOSE,
        "b",
    ):
        parser.push(piece)
        regions.append(parser.region)
    thinking, content, inside = Region.THINKING, Region.CONTENT, Region.CALL
    assert regions == [*[thinking] * 3, *[content] * 3, *[inside] * 2, content, content]
    prompt = "<|channel>thought\n"
    assert family_of("gemma4").make(OutputStart(prompt, think=True)).region is thinking
    hidden = family_of("gemma4").make(OutputStart(think=False))
    hidden.push("<|channel>")
    assert hidden.region is thinking


def test_what_is_certain_is_passed_on_at_once() -> None:
    parser = family_of("gemma4").make(OutputStart(think=True))
    assert parser.push("one two ") == Parsed("one two")
    assert parser.push("<") == Parsed()
    assert parser.push("3") == Parsed(" <3")
    assert parser.push("<|channel>thought\na ") == Parsed("", "a")
    assert parser.push("b<channel|> c") == Parsed("c", " b")


RECORDED = [text for _, text, _, _ in TEXTS] + [
    f"Look.\n{call(text)}\n{CLOSE}<|tool_response>done" for text, _ in ARGUMENTS
]
FRAGMENTS = [*GEMMA4_MARKERS.all, "thought\n", "call:bash{command:", "}", ",", "'", '"', " ", "\n",
             "a", "<|", "<", "|>", "<|tool_", "timeout:", "12", "[", "{", "é", "\\"]  # fmt: skip
CUTS = st.lists(st.integers(0, 200), max_size=8)


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RECORDED), CUTS, st.booleans())
def test_cuts_change_nothing(text: str, places: list[int], think: bool) -> None:
    assert split(cut(text, places), think=think) == split([text], think=think)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join), CUTS)
def test_any_text_is_split_and_none_is_lost(text: str, places: list[int]) -> None:
    whole = split([text])
    assert split(cut(text, places)) == whole
    if OPEN not in text:  # calls are converted
        expected = text
        for marker in GEMMA4_MARKERS.all:
            expected = expected.replace(marker, "")
        seen = sorted((whole.thinking + whole.content).replace("thought", "").split())
        assert sorted("".join(seen)) == sorted("".join(expected.replace("thought", "").split()))
