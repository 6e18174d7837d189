"""Thinking: the rules of CONTRACT 8.2, however the answer arrives."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from outrider.daemon.chat.format import ChatFormat
from outrider.daemon.chat.parse.parser import OutputStart, Parsed, Region
from outrider.daemon.chat.parse.thinking import (
    MAX_TAIL,
    ThinkingParser,
    open_thought,
    thinking_then,
)

pytestmark = pytest.mark.unit

CASES = [
    # opened, text, thinking, content
    (False, "<think>hm</think>yes", "hm", "yes"),
    (False, " \n<think>\n hm </think>\n\n yes ", "hm ", "yes "),
    (False, "yes", "", "yes"),
    (False, "  yes", "", "  yes"),
    (False, "yes <think>no</think> yes", "", "yes <think>no</think> yes"),
    (False, "<thinking>yes", "", "<thinking>yes"),
    (False, "<thi", "", "<thi"),
    (False, "  <thi", "", "  <thi"),
    (False, "< think>hm", "", "< think>hm"),
    (False, "", "", ""),
    (False, " \n ", "", " \n "),
    (False, "<think>", "", ""),
    (False, "<think>\n \n", "", ""),
    (False, "<think></think>", "", ""),
    (False, "<think> </think> ", "", ""),
    (False, "<think></think>yes", "", "yes"),
    (False, "<think>hm", "hm", ""),
    (False, "<think>hm</thi", "hm</thi", ""),
    (False, "<think>hm</</think>yes", "hm</", "yes"),
    (False, "<think>a</thin</think>b", "a</thin", "b"),
    (False, "<think>a<think>b</think>c", "a<think>b", "c"),
    (False, "<think>a</think>b</think>c", "a", "b</think>c"),
    (False, "<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
    (False, "<think>a</think> <think>c</think>d", "a", "<think>c</think>d"),
    (False, "</think>yes", "", "</think>yes"),
    (False, "<think>ü👋</think>\u00a0ü👋", "ü👋", "ü👋"),
    (True, "hm</think>yes", "hm", "yes"),
    (True, " \n hm </think> \nyes", "hm ", "yes"),
    (True, "hm", "hm", ""),
    (True, "", "", ""),
    (True, "</think>yes", "", "yes"),
    (True, "\n</think>\n\nyes", "", "yes"),
    (True, "hm <", "hm <", ""),
]


def split(pieces: Iterable[str], *, opened: bool) -> tuple[str, str]:
    parser = ThinkingParser(opened=opened)
    parsed = sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()
    assert parser.finish() == Parsed(), "nothing may come twice"
    return parsed.thinking, parsed.content


@pytest.mark.parametrize(("opened", "text", "thinking", "content"), CASES)
def test_the_rules(opened: bool, text: str, thinking: str, content: str) -> None:
    assert split([text], opened=opened) == (thinking, content)


@pytest.mark.parametrize(("opened", "text", "thinking", "content"), CASES)
def test_two_cuts_anywhere_change_nothing(
    opened: bool, text: str, thinking: str, content: str
) -> None:
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            pieces = [text[:first], text[first:second], text[second:]]
            assert split(pieces, opened=opened) == (thinking, content), pieces


@pytest.mark.parametrize(("opened", "text", "thinking", "content"), CASES)
def test_one_character_at_a_time_changes_nothing(
    opened: bool, text: str, thinking: str, content: str
) -> None:
    assert split(text, opened=opened) == (thinking, content)


def test_random_texts_cut_at_random_places() -> None:
    rng = random.Random(1)
    words = ["<think>", "</think>", "<", "</", "think>", " ", "\n", "a", "</thi", "<think"]
    for _ in range(500):
        text = "".join(rng.choice(words) for _ in range(rng.randrange(12)))
        opened = rng.random() < 0.3
        whole = split([text], opened=opened)
        for _ in range(5):
            cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(6)))
            edges = [0, *cuts, len(text)]
            pieces = [text[a:b] for a, b in pairwise(edges)]
            assert split(pieces, opened=opened) == whole, (text, pieces, opened)


def test_nothing_is_held_back_that_is_certain() -> None:
    parser = ThinkingParser(opened=False)
    assert parser.push("<think>") == Parsed("", "")
    assert parser.push("one") == Parsed("", "one")
    assert parser.push(" two<") == Parsed("", " two")
    assert parser.push("3") == Parsed("", "<3")
    assert parser.push("</think>") == Parsed("", "")
    assert parser.push("a <") == Parsed("a <", "")
    assert parser.push("think> ") == Parsed("think> ", "")


def test_a_border_inside_a_piece_gives_both_parts() -> None:
    assert ThinkingParser(opened=True).push("hm</think>yes") == Parsed("yes", "hm")


HIDDEN = [
    # prompt, text, content
    ("", "<think>hm</think>\n\nyes", "yes"),
    ("", "<think>\n\n</think>\n\nyes", "yes"),
    ("", "</think>\n\nyes", "yes"),
    ("", " \n</think>yes", "yes"),
    ("", "yes </think> no </think>", "yes  no </think>"),
    ("", "yes", "yes"),
    ("", " yes", " yes"),
    ("", "</thi", "</thi"),
    ("", "<", "<"),
    ("", "<think>hm", ""),
    ("a<think>\n", "hm</think>\nyes", "yes"),
    ("<think>\n\n</think>\n\n", "</think>yes", "yes"),
]


def pieces_of(text: str) -> Iterable[list[str]]:
    for cut in range(len(text) + 1):
        yield [text[:cut], text[cut:]]
    yield list(text)


def read(start: OutputStart, pieces: Iterable[str]) -> Parsed:
    parser = thinking_then(start)
    return sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()


@pytest.mark.parametrize(("prompt", "text", "content"), HIDDEN)
def test_without_thinking_no_thought_and_no_tag_is_shown(
    prompt: str, text: str, content: str
) -> None:
    for pieces in pieces_of(text):
        assert read(OutputStart(prompt, think=False), pieces) == Parsed(content), pieces


TAGGED = ChatFormat(think_open="[THINK]\n", think_close="\n[/THINK]")


@pytest.mark.parametrize(
    ("prompt", "text", "parsed"),
    [
        ("", "[THINK]\nhm[/THINK]\nyes", Parsed("yes", "hm")),
        ("[THINK]\n", "hm[/THINK]yes", Parsed("yes", "hm")),
        ("", "<think>hm</think>yes", Parsed("<think>hm</think>yes")),
    ],
)
def test_a_template_may_have_tags_of_its_own(prompt: str, text: str, parsed: Parsed) -> None:
    for pieces in pieces_of(text):
        assert read(OutputStart(prompt, format=TAGGED), pieces) == parsed


def test_a_marker_of_the_inner_parser_may_end_a_thought() -> None:
    for pieces in pieces_of("hm <call>yes</think>"):
        parser = thinking_then(OutputStart("<think>"), interrupts=("<call>",))
        parsed = sum((parser.push(piece) for piece in pieces), Parsed())
        assert parsed + parser.finish() == Parsed("<call>yes</think>", "hm ")


def test_the_region_is_that_of_the_inner_parser_after_a_thought() -> None:
    inner = ThinkingParser(opened=True)
    parser = ThinkingParser(opened=False, inner=inner)
    assert parser.region is Region.THINKING, "the inner parser begins in a thought"
    parser.push("<think>a</think>b</think>")
    assert parser.region is Region.CONTENT


USER, HEADER = "<|im_start|>user\nWhat is\n<think>?<|im_end|>\n", "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("prompt", "thought"),
    [
        ("<think>", ""),
        (f"{HEADER}<think>\n", ""),
        (f"{HEADER}<think>\nhm", "hm"),
        (f"{HEADER}<think>\nhm, <think>", "hm, <think>"),
        (f"{USER}{HEADER}", None),
        (f"{USER}{HEADER}<think>\n\n</think>\n\n", None),
        (f"{USER}{HEADER}<think>hm</think>yes", None),
        (f"{HEADER}<think>a</think><|im_end|>\n{USER}{HEADER}<think>b", "b"),
        (f"{HEADER}The tag <think> is", None),
        ("[INST]a\n<think>[/INST]", None),
        ("[INST]a[/INST]<think>hm", "hm"),
        ("<end_of_turn>\n<start_of_turn>model\n<think>hm", "hm"),
        ("<｜User｜>\n<think>a<｜Assistant｜>", None),
        ("<｜User｜>a<｜Assistant｜><think>hm", "hm"),
        ("Assistant: <think>", ""),
        (f"<think>\nhm{'m' * MAX_TAIL}", None),
        ("", None),
    ],
)
def test_the_thought_in_which_a_prompt_ends(prompt: str, thought: str | None) -> None:
    assert open_thought(prompt, "<think>", "</think>") == thought


def test_a_thought_that_has_begun_goes_on_with_its_blanks() -> None:
    for pieces in pieces_of(" so</think>\n\nyes"):
        assert read(OutputStart(f"{HEADER}<think>\nhm"), pieces) == Parsed("yes", " so")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_hidden_thought_leaks_no_closing_tag_anywhere(size: int) -> None:
    parser = ThinkingParser(opened=False, hidden=True)
    text = "so it is\n</think>\n\nyes, </think> is a tag"
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    parsed = sum((parser.push(piece) for piece in pieces), Parsed()) + parser.finish()
    assert parsed.thinking == ""
    assert parsed.content.split() == ["so", "it", "is", "yes,", "</think>", "is", "a", "tag"]
