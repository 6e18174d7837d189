"""Which requests are running, and which were the last ones? Their times and counts, no texts."""

from __future__ import annotations

import itertools
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass

from aiohttp import web

from ..protocol import Done
from ..snapshot import RequestState
from .guard import Handler
from .request_log import CLIENT_LEFT

MAX_RECENT = 50  # ended requests that are kept
MAX_RUNNING = 20  # running ones that are shown
METHODS = frozenset({"POST", "DELETE"})  # GET only reads
NOT_LISTED = frozenset({"/api/show", "/api/doctor"})  # they read, too, and some clients ask often
FAILED = "failed"  # the ending of an answer that was to have text, and ended without a reason
NS = 1e-9  # seconds


@dataclass(slots=True)
class RequestRecord:
    """What is known of one request; filled in while it runs."""

    number: int
    started_at: float  # Unix time, seconds
    start_s: float  # monotonic
    route: str
    model: str = ""
    status: int = 0
    took_s: float = 0.0
    first_s: float | None = None
    expects_text: bool = False
    prompt_tokens: int = 0
    done: Done | None = None

    def note_text(self) -> None:
        """Text has come; its first time counts."""
        if self.first_s is None:
            self.first_s = time.monotonic() - self.start_s

    def describe(self, now_s: float) -> RequestState:
        """As a value; `now_s`: the monotonic time, for a request that still runs."""
        done = self.done or Done("")
        report = done.speculation_report
        eval_s = done.eval_ns * NS
        return RequestState(
            number=self.number,
            started_at=self.started_at,
            route=self.route,
            model=self.model,
            status=self.status,
            ending=self._ending(),
            took_s=self.took_s if self.status else now_s - self.start_s,
            prompt_tokens=done.prompt_tokens or self.prompt_tokens,
            cached_tokens=done.cached_tokens,
            tokens=done.eval_tokens,
            first_s=self.first_s,
            tokens_per_s=done.eval_tokens / eval_s if eval_s else None,
            drafted=report.drafted if report else 0,
            accepted=report.accepted if report else 0,
        )

    def _ending(self) -> str:
        if self.done:
            return self.done.reason
        return FAILED if self.status and self.expects_text else ""


RECORD: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def current_record() -> RequestRecord:
    """The record of the request that this code works for; one that nobody reads outside of any."""
    return RECORD.get() or RequestRecord(0, 0.0, 0.0, "")


class RecentRequests:
    """The running requests, and a bounded number of those that have ended."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._running: dict[int, RequestRecord] = {}
        self._ended: deque[RequestRecord] = deque(maxlen=MAX_RECENT)

    def describe(self) -> tuple[list[RequestState], list[RequestState]]:
        """Running ones, the oldest first; ended ones, the newest first."""
        now_s = time.monotonic()
        running = itertools.islice(self._running.values(), MAX_RUNNING)
        return (
            [record.describe(now_s) for record in running],
            [record.describe(now_s) for record in reversed(self._ended)],
        )

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keeps a record of each request that does something."""
        resource = request.match_info.route.resource
        path = resource.canonical if resource else ""
        if request.method not in METHODS or not path or path in NOT_LISTED:
            return await handler(request)
        record = RequestRecord(
            next(self._numbers), time.time(), time.monotonic(), f"{request.method} {path}"
        )
        self._running[record.number] = record
        token, status = RECORD.set(record), CLIENT_LEFT  # of a handler that is cancelled
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            RECORD.reset(token)
            del self._running[record.number]
            record.status, record.took_s = status, time.monotonic() - record.start_s
            self._ended.append(record)


RECENT = web.AppKey("recent", RecentRequests)
