"""All families: recorded outputs give the same events however they arrive, and no text is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.parse.parser import OutputParser, OutputStart, Parsed
from outrider.daemon.chat.parse.registry import FAMILIES

pytestmark = pytest.mark.unit

TOOLS = tuple(
    Tool({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    for name in ("get_weather", "add")
)
PARIS = ToolCall("get_weather", {"city": "Paris"})
SUM = ToolCall("add", {"x": 1, "y": 2.5})
PARIS_JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
SUM_JSON = '{"name": "add", "arguments": {"x": 1, "y": 2.5}}'
THOUGHT = "<think>\nhm</think>\n\n"
SECTION = "<|tool_calls_section_begin|>{}<|tool_calls_section_end|>"
KIMI_CALL = "<|tool_call_begin|>functions.{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
DEEPSEEK = "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>"
DEEPSEEK_V3 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
DEEPSEEK_V31 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
PARIS_ARGUMENTS, SUM_ARGUMENTS = '{"city": "Paris"}', '{"x": 1, "y": 2.5}'
COHERE_CALLS = """[
    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}},
    {"tool_call_id": "1", "tool_name": "add", "parameters": {"x": 1, "y": 2.5}}
]"""

DROPPING = {"gemma4-no-thinking"}  # drops what stands in a channel (CONTRACT 8.7)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An output and what it means. The prompt and the tools are those of its request."""

    family: str
    text: str
    parsed: Parsed
    prompt: str = ""
    tools: tuple[Tool, ...] = TOOLS


def calls(*of: ToolCall) -> Parsed:
    return Parsed(tool_calls=of)


def answer(content: str, thinking: str = "") -> Parsed:
    return Parsed(content, thinking)


BOTH = calls(PARIS, SUM)
RECORDED = [
    Recorded("content", "<think>a", answer("<think>a")),
    Recorded("thinking", THOUGHT + "yes ", answer("yes ", "hm")),
    Recorded("json", PARIS_JSON, calls(PARIS)),
    Recorded("json", THOUGHT + f"\n[{PARIS_JSON}, {SUM_JSON}]", answer("", "hm") + BOTH),
    Recorded("json", '{"name": "Bob"}', answer('{"name": "Bob"}')),
    Recorded("json", '{"name": "add', answer('{"name": "add')),
    Recorded("json", f"So {PARIS_JSON}", answer(f"So {PARIS_JSON}")),
    Recorded("json", PARIS_JSON, answer(PARIS_JSON), tools=()),
    Recorded("llama3", PARIS_JSON.replace("arguments", "parameters"), calls(PARIS)),
    Recorded("llama3", f"\n{PARIS_JSON}; {SUM_JSON}", BOTH),
    Recorded("llama3", f"<|python_tag|>{PARIS_JSON}", calls(PARIS)),
    Recorded("llama3", f"So:\n<|python_tag|>{SUM_JSON}", answer("So:") + calls(SUM)),
    Recorded("llama3", '<|python_tag|>add.call(x=1, y=2.5)', calls(SUM)),
    Recorded("llama3", "<|python_tag|>print(1)", answer("print(1)")),
    Recorded("llama3", f"<|python_tag|>{SUM_JSON}", answer(SUM_JSON), tools=()),
    Recorded("llama3", f"{PARIS_JSON}\n\nDone.", answer("\n\nDone.") + calls(PARIS)),
    Recorded("llama3", '{"city": "Paris"}', answer('{"city": "Paris"}')),
    Recorded("llama3", "[1, 2]", answer("[1, 2]")),
    Recorded("mistral", f"[TOOL_CALLS] [{PARIS_JSON}, {SUM_JSON}]", BOTH),
    Recorded("mistral", f"I look. [TOOL_CALLS] [{SUM_JSON}]", answer("I look.") + calls(SUM)),
    Recorded("mistral", "[TOOL_CALLS] none", answer(" none")),
    Recorded("mistral", "[1] is a list", answer("[1] is a list")),
    Recorded(
        "ministral",
        f"[THINK]hm[/THINK]\n[TOOL_CALLS]get_weather[ARGS]{PARIS_ARGUMENTS}"
        f"[TOOL_CALLS]add[ARGS]{SUM_ARGUMENTS}",
        answer("", "hm") + BOTH,
    ),
    Recorded(
        "ministral",
        f"[TOOL_CALLS]add[CALL_ID]a1b2c3d4e[ARGS]{SUM_ARGUMENTS}",
        calls(ToolCall("add", {"x": 1, "y": 2.5}, "a1b2c3d4e")),
    ),
    Recorded("ministral", "[THINK]hm[/THINK]yes", answer("yes", "hm")),
    Recorded("ministral", "[TOOL_CALLS]add[ARGS]{x}", answer("add{x}")),
    Recorded(
        "deepseek3",
        "hm</think>I look.\n\n"
        + DEEPSEEK.format(
            DEEPSEEK_V31.format("get_weather", PARIS_ARGUMENTS)
            + DEEPSEEK_V31.format("add", SUM_ARGUMENTS)
        ),
        answer("I look.", "hm") + BOTH,
        prompt="<｜Assistant｜><think>",
    ),
    Recorded(
        "deepseek3",
        DEEPSEEK.format(
            DEEPSEEK_V3.format("get_weather", PARIS_ARGUMENTS)
            + "\n"
            + DEEPSEEK_V3.format("add", SUM_ARGUMENTS)
        ),
        BOTH,
    ),
    Recorded(
        "cogito",
        THOUGHT + "<｜tool▁calls｜>" + DEEPSEEK_V3.format("add", SUM_ARGUMENTS),
        answer("", "hm") + calls(SUM),
    ),
    Recorded(
        "deepseek3",
        "<think>hm " + DEEPSEEK.format(DEEPSEEK_V31.format("function", "{}")) + "\nyes",
        answer("yes", "hm ") + calls(ToolCall("function", {})),
    ),
    Recorded("deepseek3", DEEPSEEK.format("oops"), answer("oops")),
    Recorded("granite", f"<|tool_call|>[{PARIS_JSON}, {SUM_JSON}]", BOTH),
    Recorded(
        "granite",
        f"<tool_call>\n{PARIS_JSON}\n</tool_call>\n<tool_call>\n{SUM_JSON}\n</tool_call>",
        BOTH,
    ),
    Recorded("granite", THOUGHT + "yes", answer("yes", "hm")),
    Recorded("granite", " so</think>yes", answer("yes", " so"),
             prompt="<|end_of_role|><think>hm"),
    Recorded("cohere", " so<|END_THINKING|><|START_TEXT|>yes", answer("yes", " so"),
             prompt="<|CHATBOT_TOKEN|><|START_THINKING|>hm"),
    Recorded("ministral", " so[/THINK]yes", answer("yes", " so"), prompt="[/INST][THINK]hm"),
    Recorded("phi-4", f"<|tool_call|>[{PARIS_JSON}, {SUM_JSON}]<|/tool_call|>", BOTH),
    Recorded("phi-4", f"functools[{PARIS_JSON}, {SUM_JSON}]", BOTH),
    Recorded("phi-4", "functools[1]", answer("functools[1]")),
    Recorded("phi-4", f"So functools[{SUM_JSON}]", answer(f"So functools[{SUM_JSON}]")),
    Recorded(
        "cohere",
        f"<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>{COHERE_CALLS}<|END_ACTION|>",
        answer("", "hm") + BOTH,
    ),
    Recorded("cohere", "<|START_RESPONSE|>yes \nno<|END_RESPONSE|>", answer("yes \nno")),
    Recorded("cohere", "hm<|END_THINKING|><|START_TEXT|>yes<|END_TEXT|>", answer("yes", "hm"),
             prompt="<|CHATBOT_TOKEN|><|START_THINKING|>"),
    Recorded("command-r", f"Action: ```json\n{COHERE_CALLS}\n```", BOTH),
    Recorded("command-r", f"Action:```json\n{COHERE_CALLS}```", BOTH),
    Recorded(
        "command-r",
        'Action:```json\n[{"tool_name": "add", "parameters": {"x": "```"}}]\n```',
        calls(ToolCall("add", {"x": "```"})),
    ),
    Recorded("command-r", "Action: jump", answer("Action: jump")),
    Recorded(
        "olmo3",
        '<function_calls>\nget_weather(city="Paris")\nadd(x=1, y=2.5)\n</function_calls>',
        BOTH,
    ),
    Recorded("olmo3", "<function_calls>add(1, 2)</function_calls>", answer("add(1, 2)")),
    Recorded(
        "olmo3-think",
        "hm</think><function_calls>get_weather(city='Paris')</function_calls>",
        answer("", "hm") + calls(PARIS),
        prompt="<|im_start|>assistant\n<think>",
    ),
    Recorded("hermes", f"<tool_call>\n{PARIS_JSON}\n</tool_call>", calls(PARIS)),
    Recorded("qwen3", f"I look.\n<tool_call>\n{SUM_JSON}\n</tool_call>", answer("I look.")
             + calls(SUM)),
    Recorded("qwen3-thinking", f"hm</think>\n\n<tool_call>\n{SUM_JSON}\n</tool_call>",
             answer("", "hm") + calls(SUM), prompt="<think>\n"),
    Recorded("nemotron", f"{THOUGHT}<TOOLCALL>[{SUM_JSON}]</TOOLCALL>", answer("", "hm")
             + calls(SUM)),
    Recorded(
        "kimi-k2",
        "I look."
        + SECTION.format(
            KIMI_CALL.format("get_weather:0", PARIS_ARGUMENTS)
            + KIMI_CALL.format("add:1", SUM_ARGUMENTS)
        ),
        answer("I look.")
        + calls(
            ToolCall("get_weather", {"city": "Paris"}, "functions.get_weather:0"),
            ToolCall("add", {"x": 1, "y": 2.5}, "functions.add:1"),
        ),
    ),
    Recorded("kimi-k2", SECTION.format(KIMI_CALL.format("add:1", "oops")),
             answer("functions.add:1oops")),
]  # fmt: skip


def parse(parser: OutputParser, pieces: Iterable[str]) -> Parsed:
    """What the parser makes of the pieces. The calls are numbered by whoever collects them."""
    parsed = sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()
    assert not parser.finish(), "nothing may come twice"
    plain = tuple(ToolCall(call.name, call.arguments, call.id) for call in parsed.tool_calls)
    return Parsed(parsed.content, parsed.thinking, plain)


def start(recorded: Recorded) -> OutputParser:
    return FAMILIES[recorded.family].make(OutputStart(recorded.prompt, recorded.tools))


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: f"{r.family}:{r.text[:20]}")
def test_recorded_outputs(recorded: Recorded) -> None:
    assert parse(start(recorded), [recorded.text]) == recorded.parsed
    assert parse(start(recorded), recorded.text) == recorded.parsed


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(RECORDED), st.lists(st.integers(1, 30), max_size=12))
def test_any_cut_gives_the_same_events(recorded: Recorded, sizes: list[int]) -> None:
    pieces, rest = [], recorded.text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert parse(start(recorded), [*pieces, rest]) == recorded.parsed


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: f"{r.family}:{r.text[:20]}")
def test_an_output_may_end_anywhere(recorded: Recorded) -> None:
    """A cut output raises nothing, and shows no whole marker."""
    markers = FAMILIES[recorded.family].markers
    for end in range(len(recorded.text)):
        parsed = parse(start(recorded), [recorded.text[:end]])
        assert not any(marker in parsed.content for marker in markers)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in DROPPING])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_word_is_lost(name: str, data: st.DataObject) -> None:
    """Words between markers, in any order: each one is thought, content, or in a call."""
    family = FAMILIES[name]
    noise = ["{", "}", "[", "<", "|", '"', "\n", " ", "{}", PARIS_JSON]
    words = st.integers(0, 99).map(lambda n: f"w{n} ")
    text = st.lists(st.sampled_from([*family.markers, *noise]) | words, max_size=12)
    pieces = data.draw(text)
    parsed = parse(family.make(OutputStart("", TOOLS, think=True)), pieces)
    assert parsed == parse(family.make(OutputStart("", TOOLS, think=True)), "".join(pieces))
    if parsed.tool_calls:
        return
    found = (parsed.thinking + parsed.content).split()
    for piece in pieces:
        if piece.startswith("w"):
            assert any(piece.strip() in word for word in found), (pieces, parsed)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_markers_of_a_family(name: str) -> None:
    family = FAMILIES[name]
    assert len(set(family.markers)) == len(family.markers)
    assert all([*family.markers, *family.openings])
    if name != "generic":  # its openings are the tags of a template
        assert bool(family.openings) is (family.thinks or family.calls)


@pytest.mark.parametrize("name", dict.fromkeys(recorded.family for recorded in RECORDED))
def test_a_family_that_says_so_finds_calls(name: str) -> None:
    of_family = [recorded.parsed for recorded in RECORDED if recorded.family == name]
    assert any(parsed.tool_calls for parsed in of_family) is FAMILIES[name].calls
