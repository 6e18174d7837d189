"""A forced call that is worded as JSON, and what is none."""

from __future__ import annotations

import json

import pytest
from outrider.daemon.chat.conversation import ToolCall
from outrider.daemon.chat.parse.json_call import JsonCallParser
from outrider.daemon.chat.parse.parser import ContentParser, OutputStart, Parsed, Region
from outrider.daemon.chat.parse.thinking import THINKING_FAMILY

pytestmark = pytest.mark.unit

CALL = '{"name": "add", "arguments": {"n": [1, "ü"]}}'


def read(text: str, size: int) -> Parsed:
    parser = JsonCallParser(THINKING_FAMILY.make(OutputStart()))
    parts = [parser.push(text[at : at + size]) for at in range(0, len(text), size)]
    return sum(parts, Parsed()) + parser.finish()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_call_is_read_after_a_thought(size: int) -> None:
    parsed = read(f"<think>hm</think>\n{CALL}", size)
    assert parsed == Parsed(thinking="hm", tool_calls=(ToolCall("add", {"n": [1, "ü"]}),))


@pytest.mark.parametrize("text", [CALL[:-3], "words", '{"name": 3}', "[1]", "3", '{"name": "a"}'])
def test_a_text_that_is_no_call_is_content(text: str) -> None:
    assert read(text, 3) == Parsed(text)


def test_a_thought_that_is_cut_off_is_no_content() -> None:
    assert read("<think>hm", 2) == Parsed(thinking="hm")


def test_the_region_is_that_of_the_models_own_parser() -> None:
    parser = JsonCallParser(ContentParser())
    assert parser.region is Region.CONTENT


class CallingParser(ContentParser):
    """Takes every text for a call in a format of its own."""

    def push(self, text: str) -> Parsed:
        return Parsed(tool_calls=(ToolCall("outer", json.loads(text), index=2),))


def test_a_call_in_the_models_own_format_is_unwrapped() -> None:
    parser = JsonCallParser(CallingParser())
    parsed = parser.push(CALL) + parser.push('{"n": 1}') + parser.finish()
    inner = ToolCall("add", {"n": [1, "ü"]}, index=2)
    assert parsed.tool_calls == (inner, ToolCall("outer", {"n": 1}, index=2))
