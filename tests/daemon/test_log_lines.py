"""The log: one bounded line for each record, whatever clients put into it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.log_lines import (
    CONTINUED,
    LINE_CHARS,
    TRACE_CHARS,
    TRACE_LINES,
    VALUE_CHARS,
    JsonFormatter,
    TextFormatter,
    safe_line,
)
from outrider.daemon.request_note import NOTE, RequestNote, current_id, open_note

pytestmark = pytest.mark.unit

TEXT = TextFormatter(with_time=False)


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("outrider", logging.WARNING, __file__, 1, message, args, trace)


@pytest.fixture
def note() -> Iterator[RequestNote]:
    note = open_note("mine-1")
    yield note
    NOTE.set(None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain é 漢 ok", "plain é 漢 ok"),
        ("a\r\nERROR b", r"a\r\nERROR b"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\x00\x7f", r"\x00\x7f"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_control_characters_are_escaped(text: str, line: str) -> None:
    assert safe_line(text) == line
    assert TEXT.format(record("%s", text)) == f"WARNING {line}"


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60))
def test_every_text_becomes_one_printable_line_in_utf_8(text: str) -> None:
    line = TEXT.format(record("x %s", text))
    assert len(line.splitlines()) == 1
    assert line.encode()
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text


def test_a_value_is_shortened_so_that_the_rest_of_its_line_is_kept() -> None:
    line = TEXT.format(record("%s ended with %d", "x" * 2_000_000, 7))
    assert line == f"WARNING {'x' * VALUE_CHARS}... (2000000 characters) ended with 7"


@pytest.mark.parametrize("text", ["x" * 3_000_000, "\n" * 3_000_000, "\u202e" * 1999])
def test_a_line_is_bounded_after_its_escapes(text: str) -> None:
    line = TEXT.format(record("%s", ValueError(text)))
    assert len(line) < LINE_CHARS + 60
    assert line.endswith(f"... ({len(text)} characters)")
    assert len(JsonFormatter().format(record(text))) < 6 * LINE_CHARS + 200


def fail(text: str, depth: int = 0) -> ValueError:
    try:
        if depth:
            raise fail(text, depth - 1)
        raise ValueError(text)
    except ValueError as error:
        return error


def test_the_lines_of_a_traceback_cannot_be_taken_for_records() -> None:
    error = fail(f"a\nERROR forged\x1b[2J{'x' * 9999}")
    first, *rest = TEXT.format(record("failed", error=error)).splitlines()
    assert first == "WARNING failed"
    assert all(line.startswith(CONTINUED) for line in rest)
    assert all(len(line) < TRACE_CHARS + 60 for line in rest)
    assert rest[0] == CONTINUED + "Traceback (most recent call last):"
    assert rest[-1].startswith(CONTINUED + r"ERROR forged\x1b[2Jxxx")


def test_a_long_traceback_keeps_its_end() -> None:
    error = fail("\n".join(map(str, range(500))))
    lines = TEXT.format(record("failed", error=error)).splitlines()
    assert len(lines) == TRACE_LINES + 2
    assert "lines are left out" in lines[1]
    assert lines[-1] == CONTINUED + "499"


def test_a_record_without_an_error_has_no_traceback() -> None:
    bare = logging.LogRecord("a", logging.INFO, "", 1, "m", (), sys.exc_info())
    assert TEXT.format(bare) == "INFO m"


def test_mappings_and_numbers_are_formatted_as_ever() -> None:
    assert TEXT.format(record("%(a)s %(b)d", {"a": "x", "b": 2})) == "WARNING x 2"
    assert TEXT.format(record("%.200r %5.1f%%", "a\nb", 2.25)) == r"WARNING 'a\nb'   2.2%"


def test_the_id_of_the_request_ends_the_line(note: RequestNote) -> None:
    assert TEXT.format(record("loaded")) == "WARNING loaded id=mine-1"
    note.is_open = False
    assert TEXT.format(record("loaded")) == "WARNING loaded"


def test_a_json_line_has_the_facts_in_fields(note: RequestNote) -> None:
    note.key_name = "phone"
    made = record("took %.1f s", 2, error=fail("bad\n\x1b"))
    made.fields = {"status": 200}
    made.created, made.msecs = 1_700_000_000.25, 250.0
    line = JsonFormatter().format(made)
    assert line.isascii()
    fields = json.loads(line)
    assert fields.pop("traceback")[-1] == r"\x1b"
    assert fields == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "logger": "outrider",
        "message": "took 2.0 s",
        "request_id": "mine-1",
        "key": "phone",
        "status": 200,
    }


@pytest.mark.parametrize("sent", ["", "a b", "a\nb", "-a", "x" * 129, "é", "a;b"])
def test_an_id_that_is_not_well_formed_is_replaced(sent: str) -> None:
    try:
        assert open_note(sent).id.startswith("req_")
        assert current_id().startswith("req_")
    finally:
        NOTE.set(None)
