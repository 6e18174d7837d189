"""Hermes, Qwen, GLM, Laguna and LFM2: calls and thoughts, however the output arrives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.parse.parser import OutputStart, Parsed, Region
from outrider.daemon.chat.parse.registry import family_of

pytestmark = pytest.mark.unit

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"$ref": "#/$defs/Place"},
    },
    "required": ["city", "days"],
    "$defs": {"Place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
}
TOOLS = (
    Tool({"type": "function", "function": {"name": "weather", "parameters": WEATHER}}),
    Tool({"type": "function", "function": {"name": "now"}}),
)
PARIS = ToolCall("weather", {"city": "Paris", "days": 3})
NOW = ToolCall("now", {})
LATER = ToolCall("now", {}, index=1)


def call(name: str, **arguments: object) -> tuple[ToolCall, ...]:
    return (ToolCall(name, arguments),)


def read(name: str, pieces: Iterable[str], prompt: str = "", think: bool | None = None) -> Parsed:
    parser = family_of(name).make(OutputStart(prompt, TOOLS, think))
    parsed = sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()
    assert parser.finish() == Parsed(), "nothing may come twice"
    return parsed


HERMES = [
    ("hello", Parsed("hello")),
    ("hello \n", Parsed("hello \n")),
    (
        '<think>\nhm\n</think>\n\nYes.\n\n<tool_call>\n{"name": "weather", "arguments": '
        '{"city": "Paris", "days": 3}}\n</tool_call>\n<tool_call>\n{"name": "now"}\n</tool_call>',
        Parsed("Yes.", "hm", (PARIS, LATER)),
    ),
    ('<tool_call>{"name": "now", "arguments": {}}</tool_call>\n\nA', Parsed("A", "", (NOW,))),
    ('<tool_call>{"name": "now", "arguments": "{}"}</tool_call>', Parsed("", "", (NOW,))),
    ('<tool_call>{"name": "x", "parameters": {"a": 1}}</tool_call>',
     Parsed("", "", call("x", a=1))),
    ('<tool_call>{"function": {"name": "now"}}</tool_call>', Parsed("", "", (NOW,))),
    ('<tool_call>{"function": "now"}</tool_call>', Parsed("", "", (NOW,))),
    ('<tool_call>[{"name": "now"}, {"name": "now"}]</tool_call>', Parsed("", "", (NOW, LATER))),
    ('<tool_call>\n{"name": "now"}\n{"name": "now"}\n</tool_call>', Parsed("", "", (NOW, LATER))),
    # the closing tag is missing, doubled, or in a text
    ('<tool_call>\n{"name": "now"}\n<tool_call>{"name": "now"}', Parsed("", "", (NOW, LATER))),
    ('<tool_call>{"name": "now"}</tool_call></tool_call>\n\na', Parsed("a", "", (NOW,))),
    ('<tool_call>{"name": "now"}</tool_call></tool_', Parsed("</tool_", "", (NOW,))),
    (
        '<tool_call>{"name": "x", "arguments": {"a": "</tool_call> b"}}</tool_call>',
        Parsed("", "", call("x", a="</tool_call> b")),
    ),
    # broken arguments
    ("<tool_call>{'name': 'x', 'arguments': {'a': True,}}</tool_call>",
     Parsed("", "", call("x", a=True))),
    ('<tool_call>{"name": "x", "arguments": {"a": "b"}</tool_call>',
     Parsed("", "", call("x", a="b"))),
    ('<tool_call>{"name": "x", "arguments": {"a": "b"', Parsed("", "", call("x", a="b"))),
    # no calls: content without markers, since half a value may do harm
    ('<tool_call>{"name": "x", "arguments": {"a": "b',
     Parsed('{"name": "x", "arguments": {"a": "b')),
    ('<tool_call>{"name": "x", "arguments": {"a": 1', Parsed('{"name": "x", "arguments": {"a": 1')),
    ("a <tool_call> b </tool_call> c", Parsed("a  b  c")),
    ('<tool_call>{"name": 1}</tool_call>', Parsed('{"name": 1}')),
    ('<tool_call>{"name": "x", "arguments": [1]}</tool_call>',
     Parsed('{"name": "x", "arguments": [1]}')),
    (
        '<tool_call>{"name": "x, "arguments": {}}</tool_call>\n'
        '<tool_call>{"name": "now"}</tool_call>',
        Parsed('{"name": "x, "arguments": {}}', "", (NOW,)),
    ),
    ('<tool_call>{"a": "b}</tool_call> bye', Parsed('{"a": "b} bye')),
    ("1 < 2 <tool", Parsed("1 < 2 <tool")),
    # a call ends the thought
    ('<think>hm <tool_call>{"name": "now"}</tool_call>\n</think>\n\nok',
     Parsed("ok", "hm", (NOW,))),
]  # fmt: skip
CODER = [
    ("hello", Parsed("hello")),
    (
        "Let me look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
        Parsed("Let me look.", "", (PARIS, LATER)),
    ),
    # values of several lines, with markup, and of other types
    (
        "<tool_call>\n<function=weather>\n<parameter=city>\n<b>\n  x\n\n</parameter>\n"
        '<parameter=tags>\n["a"]\n</parameter>\n<parameter=place>\n{"lat": 1.5}\n</parameter>\n'
        "</function>\n</tool_call>",
        Parsed("", "", call("weather", city="<b>\n  x\n", tags=["a"], place={"lat": 1.5})),
    ),
    ("<tool_call><function=x><parameter=a>1</parameter></function></tool_call>",
     Parsed("", "", call("x", a="1"))),
    (
        "<tool_call>\n<function=weather>\n<parameter=city>\n</tool_call>\n</function> "
        "<function=x>\n</parameter>\n</function>\n</tool_call>",
        Parsed("", "", call("weather", city="</tool_call>\n</function> <function=x>")),
    ),
    # without the opening tag
    ("Ok.\n<function=now>\n</function>\n</tool_call>", Parsed("Ok.", "", (NOW,))),
    ("<function=now></function> a", Parsed("a", "", (NOW,))),
    ("a <function=f>b</function> c", Parsed("a <function=f>b</function> c")),
    ("a <function=now> b", Parsed("a <function=now> b")),
    # without closing tags
    (
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n<parameter=days>\n3\n"
        "</function>\n</tool_call>",
        Parsed("", "", (PARIS,)),
    ),
    (
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n"
        "3\n</parameter>",
        Parsed("", "", (PARIS,)),
    ),
    ("<tool_call>\n<function=weather>\n<parameter=city>\nPar",
     Parsed("\n<function=weather>\n<parameter=city>\nPar")),
    ("<tool_call>\n<function=wea", Parsed("\n<function=wea")),
    # the format of Hermes
    ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', Parsed("", "", (NOW,))),
]  # fmt: skip
GLM = [
    (
        "<think>hm</think>Ok.<tool_call>weather<arg_key>city</arg_key><arg_value>Paris</arg_value>"
        "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call><tool_call>now</tool_call>",
        Parsed("Ok.", "hm", (PARIS, LATER)),
    ),
    (
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n",
        Parsed("", "", (PARIS,)),
    ),
    (
        "<tool_call>x<arg_key>a</arg_key><arg_value>\n</tool_call>\n</arg_value></tool_call>",
        Parsed("", "", call("x", a="\n</tool_call>\n")),
    ),
    ("<tool_call>x<arg_key>a</arg_key><arg_value>b", Parsed("x<arg_key>a</arg_key><arg_value>b")),
    ("<tool_call>no call</tool_call>", Parsed("no call")),
]
LFM2 = [
    (
        'Ok.<|tool_call_start|>[weather(city="Paris", days=3), now()]<|tool_call_end|>Wait.',
        Parsed("Ok.Wait.", "", (PARIS, LATER)),
    ),
    ("<|tool_call_start|>[weather('Paris', days=3)]<|tool_call_end|>", Parsed("", "", (PARIS,))),
    (
        "<|tool_call_start|>[x(a='it\\'s', b=None, c={'d': [True]}, e=\"<|tool_call_end|>\")]"
        "<|tool_call_end|>",
        Parsed("", "", call("x", a="it's", b=None, c={"d": [True]}, e="<|tool_call_end|>")),
    ),
    ("<|tool_call_start|>now()<|tool_call_end|>", Parsed("", "", (NOW,))),
    ('<|tool_call_start|>[{"name": "now"}]<|tool_call_end|>', Parsed("", "", (NOW,))),
    ('<|tool_call_start|>[x(open("y"))]<|tool_call_end|>', Parsed('[x(open("y"))]')),
    ('<|tool_call_start|>[x(a="y', Parsed('[x(a="y')),
    ("<|tool_call_start|>[x(1)]<|tool_call_end|>", Parsed("[x(1)]")),
]
CASES = [
    (name, text, parsed)
    for names, table in (
        (("hermes", "qwen3", "qwen3-thinking", "qwen3-vl-thinking"), HERMES),
        (("qwen3-coder", "qwen3.5", "nemotron-3-nano"), CODER),
        (("glm-4.7", "laguna", "poolside-v1"), GLM),
        (("lfm2", "lfm2-thinking"), LFM2),
    )
    for name in names
    for text, parsed in table
]


@pytest.mark.parametrize(("name", "text", "parsed"), CASES)
def test_an_output_is_read(name: str, text: str, parsed: Parsed) -> None:
    assert read(name, [text]) == parsed


@pytest.mark.parametrize(
    ("name", "text", "parsed"),
    [
        (name, text, parsed)
        for name, table in (
            ("hermes", HERMES),
            ("qwen3.5", CODER),
            ("glm-4.7", GLM),
            ("lfm2", LFM2),
        )
        for text, parsed in table
    ],
)
def test_a_cut_anywhere_changes_nothing(name: str, text: str, parsed: Parsed) -> None:
    assert read(name, text) == parsed, "one character at a time"
    for cut in range(1, len(text)):
        assert read(name, [text[:cut], text[cut:]]) == parsed, cut


@pytest.mark.parametrize("name", ["qwen3-thinking", "qwen3.5", "glm-4.7"])
def test_the_prompt_may_open_the_thought(name: str) -> None:
    text = "hm\n</think>\n\nyes"
    assert read(name, text, "<think>\n") == Parsed("yes", "hm")
    assert read(name, text, "<think>\n", think=False) == Parsed("yes")
    assert read(name, "</think>\n\nyes", "</think>", think=False) == Parsed("yes")
    assert read(name, "yes", "<think>\n\n</think>\n\n", think=False) == Parsed("yes")


def test_the_region_follows_the_output() -> None:
    parser = family_of("qwen3.5").make(OutputStart("<think>\n", TOOLS))
    regions = []
    for piece in ("hm", "</think>", "\n\nyes", "<tool_call>", "\n<function=now>", "</tool_call>"):
        parser.push(piece)
        regions.append(parser.region)
    thinking, content, called = Region.THINKING, Region.CONTENT, Region.CALL
    assert regions == [thinking, content, content, called, called, content]


def test_content_is_passed_on_as_soon_as_it_is_certain() -> None:
    parser = family_of("hermes").make(OutputStart())
    assert parser.push("Yes ") == Parsed("Yes")
    assert parser.push("I <") == Parsed(" I")
    assert parser.push("b") == Parsed(" <b")
    assert parser.push("\n<tool_call>") == Parsed()
    assert parser.push('{"name": "now"}</tool_call>') == Parsed("", "", (NOW,))


NAMES = ("hermes", "qwen3-coder", "qwen3.5", "glm-4.7", "lfm2-thinking")
MARKERS = (
    "<tool_call>", "</tool_call>", "<think>", "</think>", "<function=now>", "</function>",
    "<parameter=a>", "</parameter>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
    "<|tool_call_start|>", "<|tool_call_end|>",
)  # fmt: skip
PIECES = (*MARKERS, '{"name": "now", "arguments": {"a": ', "[now(a=", '"', "'", "}", ")", "]", "\n",
          " ", "w", "é", "<", "</", "\\", "1")  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=16).map("".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 80), max_size=8), st.booleans())
def test_any_output_gives_the_same_however_it_arrives(
    name: str, text: str, cuts: list[int], opened: bool
) -> None:
    prompt = "<think>" if opened else ""
    whole = read(name, [text], prompt)
    edges = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    assert read(name, [text[a:b] for a, b in pairwise(edges)], prompt) == whole
    assert read(name, text, prompt) == whole
    msgspec.msgpack.encode(whole)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_no_text_is_lost_unless_it_is_a_call(name: str, text: str) -> None:
    parsed = read(name, [text])
    if not parsed.tool_calls:
        assert visible(parsed.thinking + parsed.content) == visible(text)


def visible(text: str) -> str:
    """The text without the tags of thoughts and calls, and without blanks."""
    for marker in MARKERS[:4] + MARKERS[-2:]:
        text = text.replace(marker, "")
    return "".join(text.split())


BYTES = LLTokenizer("byte")
FORCED = {
    "hermes": [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>',
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city":"","days":1,"place":{"lat":2}}}\n'
        "</tool_call>",
    ],
    "qwen3-coder": [
        "<tool_call>\n<function=weather>\n<parameter=city>\n<a>\nb\n</parameter>\n<parameter=days>\n"
        "3\n</parameter>\n<parameter=unit>\nC\n</parameter>\n<parameter=place>\n{}\n</parameter>\n"
        "</function>\n</tool_call>",
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
    ],
    "glm-4.7": [
        "<tool_call>weather<arg_key>city</arg_key><arg_value>Paris</arg_value><arg_key>days"
        "</arg_key><arg_value>3</arg_value></tool_call><tool_call>now</tool_call>",
    ],
    "lfm2": [
        '<|tool_call_start|>[weather(city="Paris", days=3, unit="F", tags=["a"])]<|tool_call_end|>',
        "<|tool_call_start|>[now()]<|tool_call_end|>",
    ],
}
REFUSED = {
    "hermes": ["Hello", '<tool_call>\n{"name": "other"', '<tool_call>\n{"name": "now", "x'],
    "qwen3-coder": ["<tool_call>\n<function=weather>\n<parameter=days>", "<function=now>"],
    "glm-4.7": ["<tool_call>weather</tool_call>", "<tool_call>other"],
    "lfm2": ["<|tool_call_start|>[weather()", "now()"],
}


def follow(name: str, text: str) -> tuple[int, bool]:
    """How many bytes of the text the grammar of a forced call allows, and whether it may end."""
    grammar = family_of(name).call_grammar
    assert grammar
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(grammar(TOOLS, ())), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = BYTES.tokenize_str(text)
    count = matcher.validate_tokens(tokens)
    matcher.consume_tokens(tokens[:count])
    return count, matcher.is_accepting()


@pytest.mark.parametrize(("name", "text"), [(n, text) for n in FORCED for text in FORCED[n]])
def test_the_grammar_allows_calls_that_the_parser_reads(name: str, text: str) -> None:
    assert follow(name, text) == (len(text.encode()), True)
    parsed = read(name, [text])
    assert parsed.tool_calls
    assert not parsed.content


@pytest.mark.parametrize(("name", "text"), [(n, text) for n in REFUSED for text in REFUSED[n]])
def test_the_grammar_allows_nothing_else(name: str, text: str) -> None:
    assert follow(name, text)[0] < len(text)


@pytest.mark.parametrize("name", FORCED)
def test_the_grammar_names_markers_that_are_control_tokens(name: str) -> None:
    family = family_of(name)
    assert family.call_grammar
    marker = family.openings[-1] if name != "qwen3-coder" else family.openings[0]
    assert f"call: {marker} " in family.call_grammar(TOOLS, {marker})
    assert f'call: "{marker}' in family.call_grammar(TOOLS, ())


def test_a_marker_that_is_repeated_without_end_costs_little() -> None:
    text = '<tool_call>{"name": "x' + "</tool_call>\n" * 3000
    parsed = read("hermes", [text[at : at + 100] for at in range(0, len(text), 100)])
    assert parsed.content.startswith('{"name": "x')
    assert not parsed.tool_calls


@pytest.mark.parametrize(
    ("parameters", "allowed", "text"),
    [
        ({"properties": {"a": {}}}, True, '{"a": 1}'),
        ({"properties": {"a": {}}}, False, '{"b": 1}'),
        ({"properties": {}}, True, "{}"),
        ({"type": "object"}, True, '{"b": 1}'),
        (None, True, '{"b": 1}'),
        ({"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, True, '{"b": 1}'),
    ],
)
def test_arguments_are_closed_only_by_a_schema_that_lists_them(
    parameters: object, allowed: bool, text: str
) -> None:
    grammar = family_of("hermes").call_grammar
    assert grammar
    lark = grammar([Tool({"function": {"name": "f", "parameters": parameters}})], ())
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(lark), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    forced = f'<tool_call>\n{{"name": "f", "arguments": {text}}}\n</tool_call>'
    tokens = BYTES.tokenize_str(forced)
    assert (matcher.validate_tokens(tokens) == len(tokens)) is allowed
