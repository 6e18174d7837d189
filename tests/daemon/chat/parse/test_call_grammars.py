"""The grammars of forced calls: llguidance accepts them, and the parser reads what they allow."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from llguidance import LLMatcher, LLTokenizer
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.parse.parser import OutputStart
from outrider.daemon.chat.parse.registry import FAMILIES

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # llguidance calls it
]

SCHEMA = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}},
    "required": ["city"],
    "$defs": {"city": {"type": "string", "enum": ["Paris", "Rom"]}},
}
TOOLS = (
    Tool({"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}),
    Tool({"type": "function", "function": {"name": "now"}}),
)
CITY, NOTHING = '{"city": "Paris"}', "{}"
CALLS = (ToolCall("get_weather", {"city": "Paris"}), ToolCall("now", {}))

OUTPUTS = {
    "json": f'{{"name": "get_weather", "arguments": {CITY}}}\n{{"name": "now", "arguments": {{}}}}',
    "llama3": f'{{"name": "get_weather", "parameters": {CITY}}}; '
    '{"name": "now", "parameters": {}}',
    "granite": f'<|tool_call|>[{{"name": "get_weather", "arguments": {CITY}}}, '
    '{"name": "now", "arguments": {}}]',
    "phi-4": f'<|tool_call|>[{{"name": "get_weather", "arguments": {CITY}}}, '
    '{"name": "now", "arguments": {}}]<|/tool_call|>',
    "nemotron": f'<TOOLCALL>[{{"name": "get_weather", "arguments": {CITY}}}, '
    '{"name": "now", "arguments": {}}]</TOOLCALL>',
    "cohere": '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", '
    f'"parameters": {CITY}}},\n    {{"tool_call_id": "1", "tool_name": "now", "parameters": {{}}}}'
    "\n]<|END_ACTION|>",
    "command-r": f'Action: ```json\n[{{"tool_name": "get_weather", "parameters": {CITY}}}, '
    '{"tool_name": "now", "parameters": {}}]\n```',
    "deepseek3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
    f"{CITY}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{NOTHING}<｜tool▁call▁end｜>"
    "<｜tool▁calls▁end｜>",
    "kimi-k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    f"<|tool_call_argument_begin|>{CITY}<|tool_call_end|><|tool_call_begin|>functions.now:1"
    f"<|tool_call_argument_begin|>{NOTHING}<|tool_call_end|><|tool_calls_section_end|>",
}


def letters() -> Iterator[str]:
    """The character by which a byte-level vocabulary writes each byte."""
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return (chr(byte if byte in printed else next(spare)) for byte in range(256))


def vocabulary(special: tuple[str, ...]) -> LLTokenizer:
    """One token for each byte, an end token, and the special ones."""
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    description = {
        "version": "1.0",
        "added_tokens": [
            {"id": 256 + at, "content": text, "normalized": False, **plain}
            for at, text in enumerate(("</s>", *special))
        ],
        "pre_tokenizer": {**level, "use_regex": False},
        "decoder": {**level, "use_regex": False},
        "model": {"type": "BPE", "vocab": {c: n for n, c in enumerate(letters())}, "merges": []},
    }
    return LLTokenizer(json.dumps(description), eos_token=256)


@pytest.fixture(scope="module")
def plain() -> LLTokenizer:
    return vocabulary(())


def accepts(tokenizer: LLTokenizer, grammar: str, text: str) -> bool:
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def grammar(name: str, special: tuple[str, ...] = ()) -> str:
    make = FAMILIES[name].call_grammar
    assert make is not None
    return make(TOOLS, special)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_grammar_allows_what_the_parser_reads(name: str, plain: LLTokenizer) -> None:
    assert accepts(plain, grammar(name), OUTPUTS[name])
    parser = FAMILIES[name].make(OutputStart(tools=TOOLS))
    parsed = parser.push(OUTPUTS[name]) + parser.finish()
    assert parsed.content == ""
    assert [(call.name, call.arguments) for call in parsed.tool_calls] == [
        (call.name, call.arguments) for call in CALLS
    ]


@pytest.mark.parametrize("name", OUTPUTS)
def test_markers_that_are_special_tokens_are_named(name: str) -> None:
    special = tuple(m for m in FAMILIES[name].markers if m in OUTPUTS[name] and m[0] == "<")
    tokenizer = vocabulary(special)
    assert accepts(tokenizer, grammar(name, special), OUTPUTS[name])
    assert accepts(tokenizer, grammar(name), OUTPUTS[name]) is not bool(special)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(("old", "new"), [("Paris", "Bonn"), ("get_weather", "now2")])
def test_the_grammar_allows_nothing_else(name: str, old: str, new: str, plain: LLTokenizer) -> None:
    assert not accepts(plain, grammar(name), OUTPUTS[name].replace(old, new))
    assert not accepts(plain, grammar(name), "hello")
