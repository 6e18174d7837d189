"""Patterns of ECMA-262 in the words of Rust's regular expressions."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.schema_patterns import word_pattern

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("pattern", "escaped"),
    [
        ("^a{2,3}b{2}c{1,}$", "^a{2,3}b{2}c{1,}$"),
        ("^{x}$", r"^\{x\}$"),
        ("a{,3}", r"a\{,3\}"),
        ("[[a&&b~]", r"[\[a\&\&b\~]"),
        (r"[^\[\]]+", r"[^\[\]]+"),
        ("^[^]$", r"^[\s\S]$"),
        (r"\cA\/\d", r"\x01\/\d"),
        (r"\Ax\Z", "^x$"),
        ("(?<year>[0-9]{4})", "(?<year>[0-9]{4})"),
    ],
)
def test_the_meaning_stays(pattern: str, escaped: str) -> None:
    first, second, _ = word_pattern(pattern)
    assert first.text == pattern
    assert (second.text, second.is_weaker) == (escaped, False)


@pytest.mark.parametrize(
    ("pattern", "weaker"),
    [
        ("^(?!.*(a|b)$)x+$", "^x+$"),
        ("^(?=.*[)])(?<!a)(?<=b)x$", "^x$"),
        (r"\bword\b", "word"),
        (r"^(a|b)\1$", r"^(a|b)[\s\S]*$"),
        (r"(?<q>a)\k<q>+c", r"(?<q>a)[\s\S]*c"),
        ("(?=a)*b", "b"),
        ("(?:ab)?c", "(?:ab)?c"),
    ],
)
def test_what_rust_lacks_is_left_out(pattern: str, weaker: str) -> None:
    *_, last = word_pattern(pattern)
    assert (last.text, last.is_weaker) == (weaker, True)
