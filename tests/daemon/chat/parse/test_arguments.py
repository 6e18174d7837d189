"""The JSON of tool calls: its shapes, and the few repairs."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.conversation import ToolCall
from outrider.daemon.chat.parse.arguments import (
    plain,
    read_arguments,
    read_calls,
    read_value,
    split_calls,
)

pytestmark = pytest.mark.unit

CALL = ToolCall("f", {"x": 1})


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
    ("text", "rest"),
    [
        ('{"name": "f", "arguments": {"x": 1}} and so on', " and so on"),
        ('[{"name": "f", "arguments": {"x": 1}}]\n{"y": 2}', '\n{"y": 2}'),
        ('{"name": "f", "arguments": {"x": 1}} \n', ""),
    ],
)
def test_the_text_after_the_calls(text: str, rest: str) -> None:
    assert split_calls(text) == ([CALL], rest)
    assert split_calls("no call") == ([], "no call")


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
    ],
)
def test_repairs(text: str, arguments: dict[str, object]) -> None:
    assert read_arguments(text) == arguments


@pytest.mark.parametrize(
    "text",
    [
        "x", "[1]", "1", '{"x"', '{"x":', '{"x": 1 "y": 2}', '{"x": [1}', "{x: 1}", '{"x": y}',
        '{"x": "say "a""}', '{"x": 1} y', '{"x": NaN}', '{"x": Infinity}', '{"x": 1e999}', "{,}]x",
    ],
)  # fmt: skip
def test_what_stays_broken(text: str) -> None:
    assert read_arguments(text) is None


def test_a_repaired_value_ends_where_its_brackets_do() -> None:
    text = '{"x": 1,} and {"y": 2}'
    assert read_value(text) == ({"x": 1}, len('{"x": 1,}'))
    assert read_value("a {'x': 1}", 1) == ({"x": 1}, 10)


def test_calls_can_be_sent_on() -> None:
    """MessagePack has no integers over 64 bits, and UTF-8 no lone surrogates."""
    arguments = read_arguments('{"x": 123456789012345678901234567890, "y": "\\ud800a", "z": -1}')
    assert arguments == {"x": 1.2345678901234568e29, "y": "?a", "z": -1}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(arguments)) == arguments
    assert read_arguments('{"x": "\\ud83d\\ude00"}') == {"x": "😀"}


def test_a_python_value_as_json() -> None:
    assert plain({"x": (1, 2), "y": None}) == {"x": [1, 2], "y": None}
    with pytest.raises(TypeError):
        plain({"x": b"a"})
    with pytest.raises(ValueError, match="not JSON"):
        plain(float("nan"))


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
    calls, rest = split_calls(text)
    assert text.endswith(rest)
    assert calls or rest == text
