"""Which request does this code work for? Its id goes into log lines, headers and error bodies."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field

ID_BYTES = 12  # 24 hexadecimal digits (CONTRACT 3)
# What a client may send as X-Request-Id: such ids are safe in log lines and in headers.
WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


MAX_ENDINGS = 64  # of one request; /v1/systemone runs as many completions (CONTRACT 2.8)


@dataclass(frozen=True, slots=True)
class Ending:
    """How one text of a request ended, and when it did what; times of `time.monotonic_ns`."""

    reason: str
    start_ns: int  # the request arrived
    loaded_ns: int  # its model was ready
    end_ns: int
    queue_ns: int = 0  # durations, which follow each other up to `end_ns`
    prompt_ns: int = 0
    eval_ns: int = 0


@dataclass(slots=True)
class RequestNote:
    """What the log tells about a request besides its route."""

    id: str
    key_name: str = ""  # of the API key that it was sent with
    model: str = ""  # that serves it
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of those
    output_tokens: int = 0
    first_output_s: float | None = None  # since it arrived
    endings: list[Ending] = field(default_factory=list)
    is_open: bool = True

    def add_tokens(self, prompt: int, cached: int, output: int) -> None:
        """Count the tokens of a text; a request may be answered by several."""
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.output_tokens += output

    def add_ending(self, ending: Ending) -> None:
        """Keep how a text ended."""
        if len(self.endings) < MAX_ENDINGS:
            self.endings.append(ending)

    def close(self) -> None:
        """The answer is complete: tasks that live longer lose the id."""
        self.is_open = False

    @property
    def usage(self) -> dict[str, object]:
        """What is known of the work that the request caused, as fields of a log line."""
        fields: dict[str, object] = {"model": self.model} if self.model else {}
        if self.prompt_tokens or self.output_tokens:
            names = ("prompt_tokens", "cached_tokens", "output_tokens")
            fields |= {name: getattr(self, name) for name in names}
        if self.first_output_s is not None:
            fields["first_output_seconds"] = round(self.first_output_s, 6)
        if self.endings:
            fields["done_reason"] = self.endings[-1].reason
        return fields


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
