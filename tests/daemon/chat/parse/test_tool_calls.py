"""The JSON of tool calls: its shapes, and the few repairs."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import Tool, ToolCall
from outrider.daemon.chat.parse.parser import OutputStart, Parsed
from outrider.daemon.chat.parse.registry import FAMILIES
from outrider.daemon.chat.parse.tool_calls import (
    read_arguments,
    split_json_calls,
    split_python_calls,
)
from outrider.daemon.chat.parse.values import value_at

pytestmark = pytest.mark.unit

CALL = ToolCall("f", {"x": 1})


def read_calls(text: str) -> list[ToolCall]:
    """The calls of a text that holds nothing else."""
    calls, rest = split_json_calls(text)
    return [] if rest else calls


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "arguments": {"x": 1}}',
        '{"name": "f", "parameters": {"x": 1}}',
        '{"tool_name": "f", "parameters": {"x": 1}, "tool_call_id": "0"}',
        '{"function": {"name": "f", "arguments": {"x": 1}}}',
        '{"type": "function", "function": {"name": "f", "parameters": {"x": 1}}}',
        '{"type": "function", "function": "f", "arguments": {"x": 1}}',
        '{"name": "f", "arguments": "{\\"x\\": 1}"}',
        ' \n[{"name": "f", "arguments": {"x": 1}}]\n',
        '{"name": "f", "arguments": {"x": 1}}}',
        '{"name": "f", "arguments": {"x": 1}};',
    ],
)
def test_the_shapes_of_a_call(text: str) -> None:
    assert read_calls(text) == [CALL]


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "f", "arguments": {"x": 1}}, {"name": "g"}]',
        '{"name": "f", "arguments": {"x": 1}}; {"name": "g", "arguments": {}}',
        '{"name": "f", "arguments": {"x": 1}}\n{"name": "g", "arguments": ""}',
        '{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": null}',
    ],
)
def test_several_calls(text: str) -> None:
    assert read_calls(text) == [CALL, ToolCall("g", {})]


def test_an_id_that_the_model_wrote_is_kept() -> None:
    assert read_calls('[{"name": "f", "arguments": {"x": 1}, "id": "a1b2c3d4e"}]') == [
        ToolCall("f", {"x": 1}, "a1b2c3d4e")
    ]
    assert read_calls('{"name": "f", "arguments": {"x": 1}, "id": 7}') == [CALL]


@pytest.mark.parametrize(
    "text",
    [
        "", "none", "1", '"f"', "[]", "{}", "[1]", '{"name": ""}', '{"name": 1}',
        '{"name": "f", "arguments": [1]}', '{"name": "f", "arguments": "x"}',
        '{"name": "f", "arguments": 1}', '{"arguments": {}}',
        '[{"name": "f"}, {"x": 1}]', '{"name": "f" "arguments": {}}', '{"name": "f", "arg',
        '{"name": "f"} and so on', "[" * 100_000, '{"name": "f"', '[{"name": "f", "arguments": {',
    ],
)  # fmt: skip
def test_no_call(text: str) -> None:
    assert read_calls(text) == []


@pytest.mark.parametrize(
    ("text", "calls", "rest"),
    [
        ("f(x=1)", [CALL], ""),
        ("[f(x=1), g()]", [CALL, ToolCall("g", {})], ""),
        ("f(x=1)\ng() and so on", [CALL, ToolCall("g", {})], " and so on"),
        ("f(1)", [CALL], ""),
        ("f(x=1", [], "f(x=1"),
        ("f(x=1); h(1)", [CALL], "; h(1)"),
        ("no call", [], "no call"),
    ],
)
def test_calls_in_python(text: str, calls: list[ToolCall], rest: str) -> None:
    """Positional arguments need a tool whose parameters have names."""
    schema = {"properties": {"x": {"type": "integer"}}}
    tools = [Tool({"type": "function", "function": {"name": "f", "parameters": schema}})]
    assert split_python_calls(text, tools) == (calls, rest)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ('{"name": "f", "arguments": {"x": 1}} and so on', " and so on"),
        ('[{"name": "f", "arguments": {"x": 1}}]\n{"y": 2}', '\n{"y": 2}'),
        ('{"name": "f", "arguments": {"x": 1}} \n', ""),
    ],
)
def test_the_text_after_the_calls(text: str, rest: str) -> None:
    assert split_json_calls(text) == ([CALL], rest)
    assert split_json_calls("no call") == ([], "no call")


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (" {} ", {}),
        ('{"x": "a\nb\tc"}', {"x": "a\nb\tc"}),
        ('{"x": "a\x00b"}', {"x": "a\x00b"}),
        ('{"x": 1,}', {"x": 1}),
        ('{"x": [1, 2, ], "y": {"z": 3 , }\n, }', {"x": [1, 2], "y": {"z": 3}}),
        ("{'x': 'it\\'s', 'y': 'say \"a\"'}", {"x": "it's", "y": 'say "a"'}),
        ('{"x": "it\'s", \'y\': 2}', {"x": "it's", "y": 2}),
        ('{"x": True, "y": False, "z": None}', {"x": True, "y": False, "z": None}),
        ('{"x": "True"}', {"x": "True"}),
        ('{"x": "a', {"x": "a"}),
        ('{"x": [1, {"y": "b', {"x": [1, {"y": "b"}]}),
        ('{"x": 1', {"x": 1}),
        ('{"x": 1, ', {"x": 1}),
        ('{"x": "a\\', {"x": "a\\"}),
        ('{"x": "a\\d", "y": 1,}', {"x": "a\\d", "y": 1}),
        ('{"x": "C:\\\\users",}', {"x": "C:\\users"}),
        ('{"x": "\\u2603",}', {"x": "☃"}),
        ('{"x": "ü👋\n"}', {"x": "ü👋\n"}),
        ('{"x": -1.5e3,}', {"x": -1500.0}),
        ("{x: 1}", {"x": 1}),
    ],
)
def test_repairs(text: str, arguments: dict[str, object]) -> None:
    assert read_arguments(text) == arguments


@pytest.mark.parametrize(
    "text",
    [
        "x", "[1]", "1", '{"x"', '{"x":', '{"x": 1 "y": 2}', '{"x": [1}', '{"x": y}',
        '{"x": "say "a""}', '{"x": 1} y', '{"x": NaN}', '{"x": Infinity}', '{"x": 1e999}', "{,}]x",
    ],
)  # fmt: skip
def test_what_stays_broken(text: str) -> None:
    assert read_arguments(text) is None


def test_a_repaired_value_ends_where_its_brackets_do() -> None:
    text = '{"x": 1,} and {"y": 2}'
    assert value_at(text) == ({"x": 1}, len('{"x": 1,}'))
    assert value_at("a {'x': 1}", 1) == ({"x": 1}, 10)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("json", '{{"name": "f", "arguments": {{"x": {}}}}}'),
        ("hermes", '<tool_call>{{"name": "f", "arguments": {{"x": {}}}}}</tool_call>'),
        ("generic", '{{"name": "f", "arguments": {{"x": {}}}}}'),
        ("qwen3-coder", "<function=f><parameter=x>{}</parameter></function>"),
        ("lfm2", "<|tool_call_start|>[f(x={})]<|tool_call_end|>"),
        ("olmo3", "<function_calls>f(x={})</function_calls>"),
        ("gemma4", "<|tool_call>call:f{{x:{}}}<tool_call|>"),
        ("harmony", '<|channel|>commentary to=functions.f<|message|>{{"x": {}}}<|call|>'),
        ("mistral", '[TOOL_CALLS]f{{"x": {}}}'),
    ],
)
@pytest.mark.parametrize(
    ("written", "value"),
    [("9" * 30, 1e30), (str(2**64 - 1), 2**64 - 1), (r'"\ud800a"', "\ufffda")],
)
def test_calls_of_all_families_can_be_sent_on(
    name: str, text: str, written: str, value: object
) -> None:
    """MessagePack has no integers over 64 bits, and UTF-8 no lone surrogates."""
    schema = {"properties": {"x": {"type": ["number", "array"]}}}
    tools = [Tool({"type": "function", "function": {"name": "f", "parameters": schema}})]
    parser = FAMILIES[name].make(OutputStart(tools=tools))
    parsed = parser.push(text.format(written)) + parser.finish()
    assert [call.name for call in parsed.tool_calls] == ["f"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(parsed), type=Parsed) == parsed
    if name != "qwen3-coder" or not isinstance(value, str):  # its strings are not quoted
        assert parsed.tool_calls[0].arguments == {"x": value}


def test_calls_can_be_sent_on() -> None:
    """MessagePack has no integers over 64 bits, and UTF-8 no lone surrogates."""
    arguments = read_arguments('{"x": 123456789012345678901234567890, "y": "\\ud800a", "z": -1}')
    assert arguments == {"x": 1.2345678901234568e29, "y": "\ufffda", "z": -1}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(arguments)) == arguments
    assert read_arguments('{"x": "\\ud83d\\ude00"}') == {"x": "😀"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_sound_json_is_left_alone(arguments: dict[str, object]) -> None:
    text = json.dumps(arguments)
    assert read_arguments(text) == arguments
    assert read_arguments(text[:-1]) == arguments


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="{}[]\"'\\,: \nTruea1fx;", max_size=30))
def test_nothing_raises(text: str) -> None:
    read_arguments(text)
    calls, rest = split_json_calls(text)
    assert text.endswith(rest)
    assert calls or rest == text
