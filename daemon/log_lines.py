"""How does a log record become a line? Always one, of bounded length, without control characters.

Names, paths and options in the log come from clients, and texts from model files: none of them may
begin a line of its own, drive a terminal, or fill the disk.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Literal

from .request_note import current_note

LogFormat = Literal["text", "json"]

VALUE_CHARS = 1_000  # of one argument of a record
LINE_CHARS = 2_000  # of the message
TRACE_CHARS = 500  # of a line of a traceback
TRACE_LINES = 60  # the last ones, which name the error
CONTINUED = "  | "  # before the lines of a traceback: no record begins like this
# C0 and C1 controls (line breaks and terminal escapes), line separators, marks and overrides of the
# direction of writing, invisible tags, and halves of surrogate pairs, which UTF-8 cannot encode.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape(text: str) -> str:
    """The text on one line, with `\\x1b` for a control character."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, and how many there were if that is fewer than all."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text)} characters)"


def safe_line(text: str, limit: int = LINE_CHARS) -> str:
    """Both; the limit is that of the escaped text."""
    line = escape(text[:limit])
    if len(line) <= limit and len(text) <= limit:
        return line
    return f"{line[:limit]}... ({len(text)} characters)"


class TextFormatter(logging.Formatter):
    """`time LEVEL message`, then the id of the request; a traceback is indented."""

    def __init__(self, *, with_time: bool = True) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record)} " if self._with_time else ""
        note = current_note()
        tail = f" id={note.id}" if note else ""
        line = f"{head}{record.levelname} {safe_line(_message(record))}{tail}"
        return "\n".join([line, *(CONTINUED + text for text in _trace_lines(record))])


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII: `time` (UTC, RFC 3339), `level`, `logger`, `message`, and more."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": shorten(_message(record), LINE_CHARS),
        }
        if note := current_note():
            fields["request_id"] = note.id
            fields |= {"key": note.key_name} if note.key_name else {}
        fields |= getattr(record, "fields", {})
        if lines := _trace_lines(record):
            fields["traceback"] = lines
        return json.dumps(fields)


def configure_log(
    level: int, log_format: LogFormat = "text", *, with_time: bool = True
) -> logging.Handler:
    """Write all records to stderr in this format; without effect if the log is configured."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if log_format == "json" else TextFormatter(with_time=with_time)
    )
    logging.basicConfig(level=level, handlers=[handler])
    return handler


def _message(record: logging.LogRecord) -> str:
    """The text of the record, with arguments of bounded length."""
    text, args = str(record.msg), record.args
    if isinstance(args, Mapping):
        return text % {name: _bounded(value) for name, value in args.items()}
    return text % tuple(map(_bounded, args)) if args else text


def _bounded(value: object) -> object:
    return shorten(value, VALUE_CHARS) if isinstance(value, str) else value


def _trace_lines(record: logging.LogRecord) -> list[str]:
    """The end of the traceback, a safe text for each line."""
    error = record.exc_info[1] if record.exc_info else None
    text = "".join(traceback.format_exception(error)) if error else record.exc_text or ""
    lines = [*text.split("\n"), *(record.stack_info or "").split("\n")]
    lines = [line for line in lines if line.strip()]
    left_out = len(lines) - TRACE_LINES
    if left_out > 0:
        lines = [f"({left_out} lines are left out)", *lines[-TRACE_LINES:]]
    return [safe_line(line, TRACE_CHARS) for line in lines]
