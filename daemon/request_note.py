"""Which request does this code work for? Its id goes into log lines, headers and error bodies."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

ID_BYTES = 12  # 24 hexadecimal digits (CONTRACT 3)
# What a client may send as X-Request-Id: such ids are safe in log lines and in headers.
WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(slots=True)
class RequestNote:
    """What the log tells about a request besides its route."""

    id: str
    key_name: str = ""  # of the API key that it was sent with
    is_open: bool = True

    def close(self) -> None:
        """The answer is complete: tasks that live longer lose the id."""
        self.is_open = False


NOTE: ContextVar[RequestNote | None] = ContextVar("request_note", default=None)


def new_id() -> str:
    """A random id in Anthropic's form."""
    return f"req_{secrets.token_hex(ID_BYTES)}"


def open_note(sent_id: str) -> RequestNote:
    """The note of a request that begins, with the client's id if that is well formed."""
    note = RequestNote(sent_id if WELL_FORMED.fullmatch(sent_id) else new_id())
    NOTE.set(note)
    return note


def current_note() -> RequestNote | None:
    """The note of the request that this code works for; None outside of requests."""
    note = NOTE.get()
    return note if note is not None and note.is_open else None


def current_id() -> str:
    """The id of the current request; a fresh one outside of requests."""
    note = current_note()
    return note.id if note else new_id()
