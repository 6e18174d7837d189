"""What does the log say about each request, and about those that are no HTTP?"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from ..metrics.request_metrics import RequestMetrics
from ..request_note import RequestNote, current_note, open_note
from ..tracing.tracer import RequestTracer, TracedRequest
from .state import APP_STATE

CLIENT_LEFT = 499  # nginx's status for a request whose client closed the connection

TRACER = web.AppKey("tracer", RequestTracer)  # absent if no request is traced

log = logging.getLogger("outrider")


@web.middleware
async def note_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Gives the request an id; logs one line when it ends, and counts it."""
    start_s, status = time.monotonic(), CLIENT_LEFT  # of a handler that is cancelled
    note = open_note(request.headers.get("X-Request-Id", ""))
    if task := asyncio.current_task():  # of aiohttp, for this request: it ends with the answer
        task.add_done_callback(lambda _: note.close())
    state = request.app.get(APP_STATE)
    requests = state.metrics.requests if state else RequestMetrics()
    requests.num_running += 1
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        took_s = time.monotonic() - start_s
        requests.num_running -= 1
        requests.answer(route_of(request), request.method, (status, note.key_name), took_s)
        _tell(request, note, status, took_s)
        if tracer := request.app.get(TRACER):
            tracer.record(_traced(request, note, status, took_s))


def route_of(request: web.Request) -> str:
    """The path as the daemon's table of routes has it, such as `/v1/models/{id}`; or ""."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""


def _traced(request: web.Request, note: RequestNote, status: int, took_s: float) -> TracedRequest:
    return TracedRequest(
        method=request.method,
        route=route_of(request),
        path=request.path,
        status=status,
        took_s=took_s,
        server=request.host,
        headers=request.headers,
        note=note,
    )


def _tell(request: web.Request, note: RequestNote, status: int, took_s: float) -> None:
    key = f" key={note.key_name}" if note.key_name else ""
    fields: dict[str, object] = {
        "method": request.method,
        "path": request.path[:200],
        "status": status,
    }
    fields |= {"route": route_of(request), "seconds": round(took_s, 6)}
    extra = {"fields": fields | note.usage}
    log.info("%s %s %d %.3f s%s", request.method, request.path, status, took_s, key, extra=extra)


def request_headers(request: web.Request) -> dict[str, str]:
    """The headers that tell a client the id, as the clients of OpenAI and Anthropic read it."""
    note = current_note()
    if note is None:
        return {}
    also = {"Request-Id": note.id} if request.path.startswith("/v1/messages") else {}
    return {"X-Request-Id": note.id, **also}


class BadRequestFilter(logging.Filter):
    """A request that aiohttp cannot read is one line, and no fault of the daemon: no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RequestPayloadError):
            error = error.__cause__ or error
        elif not isinstance(error, HttpProcessingError):
            return True
        reason = getattr(error, "message", "") or str(error)
        source = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "-"
        record.msg, record.args = "a bad request from %s: %s", (source, reason.split("\n")[0])
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.exc_info = record.exc_text = None
        return True
