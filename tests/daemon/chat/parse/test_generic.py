"""The generic parser: thoughts and calls by the tags of a template, however the output arrives."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.format import ChatFormat
from outrider.daemon.chat.parse.generic import GENERIC_FAMILY
from outrider.daemon.chat.parse.parser import OutputStart, Parsed, Region

pytestmark = pytest.mark.unit

SCHEMAS: dict[str, dict[str, object]] = {
    "weather": {"properties": {"city": {"type": "string"}}, "required": ["city"]},
    "weather_of_week": {"properties": {"city": {"type": "string"}}},
    "now": {},
    "create": {"properties": {"name": {}, "arguments": {}}},
}
TOOLS = tuple(
    Tool({"type": "function", "function": {"name": name, "parameters": schema}})
    for name, schema in SCHEMAS.items()
)
HERMES, MISTRAL, PYTHON, BARE = "<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "{"
PARIS = '{"name": "weather", "arguments": {"city": "Paris"}}'
ROME = '{"name": "weather", "parameters": {"city": "Ro}me \\"{"}}'
NO_OBJECT = '{"name": "weather", "arguments": [1]}'
TOOL_NAME = '{"tool_name": "weather", "parameters": {"city": "Paris"}}'
UNKNOWN = '{"name": "nosuch", "arguments": {"city": "Paris"}}'
A_PARIS, A_ROME = {"city": "Paris"}, {"city": 'Ro}me "{'}

CASES: list[tuple[str, str, str, list[tuple[str, dict[str, object]]]]] = [
    # tag, output, content, calls
    (HERMES, "", "", []),
    (HERMES, " just text <tool", " just text <tool", []),
    (HERMES, "a {b} c", "a {b} c", []),
    (HERMES, f"<tool_call>\n{PARIS}\n</tool_call>", "", [("weather", A_PARIS)]),
    (HERMES, f"\n\n<tool_call>{PARIS}</tool_call>\n", "", [("weather", A_PARIS)]),
    (HERMES, f"So: <tool_call>{ROME}</tool_call> Done.", "So: Done.", [("weather", A_ROME)]),
    (HERMES, f"<tool_call>{PARIS}</tool_call>\n<tool_call>{ROME}", "",
     [("weather", A_PARIS), ("weather", A_ROME)]),
    (HERMES, f"<tool_call>{PARIS}\n{ROME}\n</tool_call>", "",
     [("weather", A_PARIS), ("weather", A_ROME)]),
    (HERMES, f"<tool_call>[{PARIS}, {ROME}]</tool_call>, ok", ", ok",
     [("weather", A_PARIS), ("weather", A_ROME)]),
    (HERMES, f"<tool_call>{UNKNOWN}</tool_call>", f"<tool_call>{UNKNOWN}</tool_call>", []),
    (HERMES, f"<tool_call>{UNKNOWN}</tool_call><tool_call>{PARIS}</tool_call>",
     f"<tool_call>{UNKNOWN}</tool_call>", [("weather", A_PARIS)]),
    (HERMES, "<tool_call>no object", "<tool_call>no object", []),
    (HERMES, '<tool_call>{"name": weather}', '<tool_call>{"name": weather}', []),
    (HERMES, '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}', "",
     [("weather", A_PARIS)]),
    (HERMES, f"<tool_call>{NO_OBJECT}</tool_call>", f"<tool_call>{NO_OBJECT}</tool_call>", []),
    (HERMES, '<tool_call>{"name": "weather", "city": "Paris"}', "", [("weather", A_PARIS)]),
    (HERMES, '<tool_call>{"weather": {"city": "Paris"}}', "", [("weather", A_PARIS)]),
    (HERMES, f'<tool_call>{{"type": "function", "function": {PARIS}}}', "", [("weather", A_PARIS)]),
    (HERMES, '<tool_call>weather\n{"city": "Paris"}</tool_call>', "", [("weather", A_PARIS)]),
    (HERMES, '<tool_call>weather_of_week{"arguments": {"city": "Paris"}}', "",
     [("weather_of_week", A_PARIS)]),
    (HERMES, '<tool_call>create{"name": "now", "arguments": {}}', "",
     [("create", {"name": "now", "arguments": {}})]),
    (HERMES, '<tool_call>{"name": "now"}</tool_call>', "", [("now", {})]),
    (HERMES, "<tool_call>now</tool_call>", "", [("now", {})]),
    (HERMES, "<tool_call>weather</tool_call>", "<tool_call>weather</tool_call>", []),
    (HERMES, '<tool_call>{"name": "now", "a": "x\ny"}', "", [("now", {"a": "x\ny"})]),
    # A missing brace is added; arguments that are cut are no call.
    (HERMES, f"<tool_call>{PARIS[:-1]}\n</tool_call>", "", [("weather", A_PARIS)]),
    (HERMES, f"<tool_call>{PARIS[:-2]}", f"<tool_call>{PARIS[:-2]}", []),
    (HERMES, '<tool_call>now{"a": {"b": 1}', '<tool_call>now{"a": {"b": 1}', []),
    (MISTRAL, f"[TOOL_CALLS] [{PARIS}, {ROME}]", "", [("weather", A_PARIS), ("weather", A_ROME)]),
    (MISTRAL, '[TOOL_CALLS]weather[ARGS]{"city": "Paris"}', "", [("weather", A_PARIS)]),
    (MISTRAL, '[TOOL_CALLS]weather{"city": "Paris"}[TOOL_CALLS]now{}', "",
     [("weather", A_PARIS), ("now", {})]),
    (PYTHON, f"<|python_tag|>{PARIS}; {ROME}", "", [("weather", A_PARIS), ("weather", A_ROME)]),
    ("Action: ```json", f"\nAction: ```json\n[\n {TOOL_NAME}\n]```", "", [("weather", A_PARIS)]),
    (BARE, f" {PARIS}", "", [("weather", A_PARIS)]),
    (BARE, f"{PARIS}; {ROME}", "", [("weather", A_PARIS), ("weather", A_ROME)]),
    (BARE, f"[{PARIS},\n{ROME}]", "", [("weather", A_PARIS), ("weather", A_ROME)]),
    (BARE, f"{PARIS} And so on {ROME}", f"And so on {ROME}", [("weather", A_PARIS)]),
    (BARE, f"Sure: {PARIS}", f"Sure: {PARIS}", []),
    (BARE, '{"answer": 42} {', '{"answer": 42} {', []),
    (BARE, "{ x }", "{ x }", []),
    (BARE, "[link](url)", "[link](url)", []),
    (BARE, '[{"answer": 42}]', '[{"answer": 42}]', []),
    (BARE, "[", "[", []),
    ("[", f"[{PARIS}]", "", [("weather", A_PARIS)]),
    ("", PARIS, "", [("weather", A_PARIS)]),
]  # fmt: skip

THOUGHTS = [
    # think, prompt, output, thinking, content
    (True, "", " <think>\n a </think>\n\nb ", "a ", "b "),
    (None, "", "<think>a</think>b", "a", "b"),
    (True, "<think>\n", "a</think> b<think>c</think>", "a", "b<think>c</think>"),
    (True, "", "b <think>a</think>", "", "b <think>a</think>"),
    (True, "", "<think>a</thin", "a</thin", ""),
    (True, "", " <thi", "", " <thi"),
    (True, "", "<think>a<tool_call>b", "a<tool_call>b", ""),
    (False, "", "<think>a</think>b", "", "b"),
    (False, "<think>", "a</think>b", "", "b"),
    (False, "", "a</think>b", "", "ab"),
]


def start(
    tag: str, think: bool | None = None, prompt: str = "", tools: tuple[Tool, ...] = TOOLS
) -> OutputStart:
    tags = ChatFormat(think_open="<think>", think_close="</think>", call_tag=tag)
    return OutputStart(prompt, tools, think, tags)


def parse(start: OutputStart, *pieces: str) -> Parsed:
    parser = GENERIC_FAMILY.make(start)
    return sum(map(parser.push, pieces), Parsed()) + parser.finish()


def cut(text: str, rng: random.Random) -> list[str]:
    places = sorted(rng.choices(range(len(text) + 1), k=5))
    return [text[a:b] for a, b in pairwise([0, *places, len(text)])]


@pytest.mark.parametrize(("tag", "output", "content", "calls"), CASES)
def test_calls(
    tag: str, output: str, content: str, calls: list[tuple[str, dict[str, object]]]
) -> None:
    expected = tuple(ToolCall(name, args, index=i) for i, (name, args) in enumerate(calls))
    whole = parse(start(tag), output)
    assert (whole.content, whole.thinking, whole.tool_calls) == (content, "", expected)
    assert parse(start(tag), *output) == whole
    rng = random.Random(output)
    assert all(parse(start(tag), *cut(output, rng)) == whole for _ in range(20))


@pytest.mark.parametrize(("think", "prompt", "output", "thinking", "content"), THOUGHTS)
def test_thoughts(
    think: bool | None, prompt: str, output: str, thinking: str, content: str
) -> None:
    begin = start(HERMES, think, prompt)
    assert parse(begin, output) == Parsed(content, thinking)
    assert parse(begin, *output) == Parsed(content, thinking)


def test_a_thought_and_a_call() -> None:
    parsed = parse(start(HERMES), f"<think>a</think>\nb<tool_call>{PARIS}</tool_call>")
    assert parsed == Parsed("b", "a", (ToolCall("weather", A_PARIS),))


def test_without_tools_all_is_content() -> None:
    text = f"<tool_call>{PARIS}</tool_call>"
    assert parse(start(HERMES, tools=()), *text) == Parsed(text)


def test_a_call_is_returned_as_soon_as_its_object_ends() -> None:
    parser = GENERIC_FAMILY.make(start(HERMES))
    regions = [parser.region]
    for piece in ("<think>", "a</think>", "b <tool", "_call>", PARIS[:-1]):
        assert not parser.push(piece).tool_calls
        regions.append(parser.region)
    assert parser.push("}").tool_calls
    assert [*regions, parser.region] == [
        Region.CONTENT, Region.THINKING, Region.CONTENT, Region.CONTENT, Region.CALL, Region.CALL,
        Region.CONTENT,
    ]  # fmt: skip


MARKERS = (HERMES, "</tool_call>", "<think>", "</think>", PARIS, UNKNOWN, "weather")
PIECES = (*HERMES, *MARKERS, *'{}"\\[],; \na')


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25), st.sampled_from([HERMES, BARE, PYTHON]))
def test_any_pieces_give_the_same_events(pieces: list[str], tag: str) -> None:
    text = "".join(pieces)
    assert parse(start(tag), *pieces) == parse(start(tag), text) == parse(start(tag), *text)


def test_a_long_argument_is_read_once() -> None:
    begin = start(HERMES)
    text = f'<tool_call>{{"name": "now", "arguments": {{"a": "{"x" * 100_000}"}}}}'
    pieces = [text[i : i + 50] for i in range(0, len(text), 50)]
    before = time.perf_counter()
    assert parse(begin, *pieces).tool_calls[0].arguments == {"a": "x" * 100_000}
    assert time.perf_counter() - before < 0.5
