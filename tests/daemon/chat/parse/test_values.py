"""Values as models write them: strict JSON, repaired JSON and Python, or none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.chat.parse.values import (
    MAX_DEPTH,
    Unreadable,
    inside_string,
    read_number,
    read_value,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, "x"], "b": null}', {"a": [1, 2.5, "x"], "b": None}),
        (' {"a": 1,} ', {"a": 1}),
        ('{"a": [1, 2,], }', {"a": [1, 2]}),
        ("{'a': 'it\\'s'}", {"a": "it's"}),
        ("{'a': \"it's\"}", {"a": "it's"}),
        ('{"a": "two\nlines\t"}', {"a": "two\nlines\t"}),
        ('{"a": True, "b": None, "c": False}', {"a": True, "b": None, "c": False}),
        ('{a: 1, b-c: "x"}', {"a": 1, "b-c": "x"}),
        ('{"a": {"b": [1, "x"', {"a": {"b": [1, "x"]}}),
        ('{"a": "x"', {"a": "x"}),
        (r'{"a": "C:\dir\users"}', {"a": r"C:\dir\users"}),
        (r'{"re": "\d+\\s",}', {"re": r"\d+\s"}),
        (r'{"a": "\u00e9\ud83d\ude00",}', {"a": "é😀"}),
        (r'"\ud800"', "\ufffd"),
        (r"'\x41\q'", r"A\q"),
        ("(1, 'b')", [1, "b"]),
        ("-1.5e2", -150.0),
        ("18446744073709551616", 18446744073709551616.0),
        ("0123", 123),
        ("''", ""),
    ],
)
def test_a_value_is_read(text: str, value: object) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "{", '{"a"', '{"a": "x', "{'a': 'x}", '{"a" 1}', '{"a": 1} x', "[1 2]", "1e999",
     "NaN", "-Infinity", "{1: 2}", "f(x)", "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
     "[" * 100_000, '{"a":' * 5_000, "9" * 5_000],
)  # fmt: skip
def test_what_is_no_value_is_unreadable(text: str) -> None:
    if text == "{":
        assert read_value(text) == {}, "brackets that are never closed are forgiven"
        return
    with pytest.raises(Unreadable):
        read_value(text)


def test_deep_values_are_read_up_to_the_limit() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert msgspec.json.encode(read_value(text)).decode() == text


@pytest.mark.parametrize("text", ["", "1a", "+", "1_000", "0x10", "\u0661"])
def test_what_is_no_number_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        read_number(text)


@pytest.mark.parametrize(
    ("text", "inside"),
    [('{"a', True), ('{"a"', False), (r'{"a\"', True), (r'{"a\\"', False), ("it's", False)],
)
def test_a_string_may_be_open(text: str, inside: bool) -> None:
    assert inside_string(text) is inside
    assert inside_string("it's", quotes="\"'")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(JSON)
def test_json_and_python_are_read_back(value: object) -> None:
    assert read_value(msgspec.json.encode(value).decode()) == value
    if isinstance(value, dict | list):
        assert read_value(repr(value)) == value


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="{}[]()\"'\\,: \nau0x1e-.", max_size=30))
def test_any_value_that_is_read_can_be_sent(text: str) -> None:
    try:
        value = read_value(text)
    except Unreadable:
        return
    msgspec.msgpack.encode(value)
