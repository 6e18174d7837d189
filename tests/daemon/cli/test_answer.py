"""Answers as the terminal shows them."""

import io
from typing import Any

import pytest
from outrider.daemon.cli.answer import AnswerView, ViewOptions, WordWrap, footer

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    """Text output that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


def chunk(content: str = "", thinking: str = "", **more: object) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, "thinking": thinking}, **more}


def shown(out: io.StringIO, view: ViewOptions, *chunks: dict[str, Any]) -> str:
    answer = AnswerView(out, view)
    for chunk in chunks:
        answer.add(chunk)
    answer.finish()
    return out.getvalue()


def test_content_and_one_newline() -> None:
    assert (
        shown(io.StringIO(), ViewOptions(), chunk("Hel"), chunk("lo"), chunk(done=True))
        == "Hello\n"
    )


def test_an_answer_that_never_began_leaves_no_line() -> None:
    assert shown(io.StringIO(), ViewOptions()) == ""


def test_thinking_comes_before_the_answer() -> None:
    chunks = (chunk(thinking="I "), chunk("Yes", thinking="see"), chunk("."))
    text = "Thinking...\nI see\n...done thinking.\n\nYes.\n"
    assert shown(io.StringIO(), ViewOptions(), *chunks) == text
    assert shown(io.StringIO(), ViewOptions(hide_thinking=True), *chunks) == "Yes.\n"


def test_thinking_is_dimmed_in_a_terminal_and_never_stays_so() -> None:
    text = shown(Terminal(), ViewOptions(), chunk(thinking="hm"))
    assert text == "Thinking...\n\x1b[2mhm\x1b[0m\n...done thinking.\n\n\n"


def test_it_keeps_content_without_thinking_and_the_metrics() -> None:
    answer = AnswerView(io.StringIO(), ViewOptions())
    for line in (chunk(thinking="a"), chunk("b"), chunk("c"), chunk(done=True, eval_count=3)):
        answer.add(line)
    assert (answer.content, answer.metrics["eval_count"]) == ("bc", 3)


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        ("one two three", "one two \nthree"),
        ("one twos three", "one twos\nthree"),
        ("abcdefghijkl mn", "abcdefghijkl mn"),
        ("abcdefghijkl mnop", "abcdefghijkl \nmnop"),
        ("ab cdefghijkl", "ab \ncdefghijkl"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("今日は良い天気", "今日は良\nい天気"),
        ("    deep", "    deep"),
        ("été été é", "été été \né"),
    ],
)
def test_lines_break_between_words_however_the_text_arrives(text: str, wrapped: str) -> None:
    whole, parts = WordWrap(8), WordWrap(8)
    assert whole.add(text) + whole.end() == wrapped
    assert "".join(map(parts.add, text)) + parts.end() == wrapped


def test_without_columns_nothing_is_held_back() -> None:
    assert WordWrap(0).add("a long wo") == "a long wo"


def test_the_footer_has_its_values_from_column_23() -> None:
    metrics = {
        "total_duration": 1_234_567_000,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 130_000_000,
        "eval_count": 100,
        "eval_duration": 3_000_000_000,
    }
    assert footer(metrics).splitlines() == [
        "total duration:       1.234567s",
        "prompt eval count:    26 token(s)",
        "prompt eval duration: 130ms",
        "prompt eval rate:     200.00 tokens/s",
        "eval count:           100 token(s)",
        "eval duration:        3s",
        "eval rate:            33.33 tokens/s",
    ]
    assert footer({}) == ""
