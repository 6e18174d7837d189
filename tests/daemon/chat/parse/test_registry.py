"""The registry of output parsers, and what all of them return."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.conversation import ToolCall
from outrider.daemon.chat.parse.parser import (
    ContentParser,
    OutputParser,
    OutputStart,
    Parsed,
    Region,
)
from outrider.daemon.chat.parse.registry import CONTENT, FAMILIES, THINKING, family_of
from outrider.daemon.chat.parse.thinking import ThinkingParser

pytestmark = pytest.mark.unit

CALLS = (ToolCall("f", {"x": 1}), ToolCall("g", {}))


def make(name: str, prompt: str = "") -> OutputParser:
    return family_of(name).make(OutputStart(prompt))


def test_each_parser_has_a_name() -> None:
    assert isinstance(make(CONTENT), ContentParser)
    assert isinstance(make(THINKING), ThinkingParser)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_output_has_a_parser_of_its_own(name: str) -> None:
    first, second = make(name), make(name)
    assert first is not second
    first.push("<think>")
    assert second.region is Region.CONTENT


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("prompt", ["", "<think>"])
def test_no_text_is_lost(name: str, prompt: str) -> None:
    parser = make(name, prompt)
    parsed = parser.push("one ") + parser.push("two") + parser.finish()
    assert parsed.thinking + parsed.content == "one two"
    assert parsed.tool_calls == ()
    assert not parser.finish()


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [("", False), ("a<think>", True), ("a<think>\n", True), ("<think>a", True),
     ("<think></think>", False)],
)  # fmt: skip
def test_a_prompt_may_open_the_thinking(prompt: str, is_open: bool) -> None:
    assert (make(THINKING, prompt).region is Region.THINKING) is is_open
    assert make(CONTENT, prompt).region is Region.CONTENT


def test_content_is_passed_on_at_once() -> None:
    parser = make(CONTENT, "<think>")
    assert parser.push("<think>a</think>") == Parsed("<think>a</think>")
    assert parser.finish() == Parsed()


def test_parts_are_joined_field_by_field() -> None:
    parts = [Parsed("a", "b"), Parsed(), Parsed("c", "", CALLS[:1]), Parsed("", "d", CALLS[1:])]
    assert sum(parts, Parsed()) == Parsed("ac", "bd", CALLS)


@pytest.mark.parametrize(
    "part", [Parsed("a"), Parsed(thinking="a"), Parsed(tool_calls=CALLS), Parsed(" ")]
)
def test_only_an_empty_part_is_false(part: Parsed) -> None:
    assert part
    assert not Parsed()
