"""Markers in a text that arrives in pieces."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.parse.markers import split_at, split_blanks

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ab<t>cd", ("ab", "<t>", "cd")),
        ("ab<tool>c<t>", ("ab", "<tool>", "c<t>")),
        ("ab<to", ("ab", "", "<to")),
        ("ab<x", ("ab<x", "", "")),
        ("", ("", "", "")),
        ("<t><t>", ("", "<t>", "<t>")),
    ],
)
def test_the_first_marker_splits_a_text(text: str, parts: tuple[str, str, str]) -> None:
    assert split_at(text, ("<t>", "<tool>")) == parts


def test_the_longest_marker_at_a_place_counts() -> None:
    assert split_at("a[TOOL_CALLS]b", ("[TOOL", "[TOOL_CALLS]")) == ("a", "[TOOL_CALLS]", "b")


def test_blanks_at_the_end_are_apart() -> None:
    assert split_blanks("a b \n") == ("a b", " \n")
    assert split_blanks("") == ("", "")
