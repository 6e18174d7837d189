"""Which spans does a request have? One of its own, and one for each phase of its texts.

Attributes follow OpenTelemetry's semantic conventions for HTTP servers and for generative AI
(1.37). The spans are made when the request has ended, with the times that were noted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..request_note import Ending, RequestNote
from .tracer import TracedRequest

CHAT, COMPLETION, EMBEDDINGS = "chat", "text_completion", "embeddings"
OPERATIONS = {
    "/api/chat": CHAT,
    "/api/generate": COMPLETION,
    "/api/embed": EMBEDDINGS,
    "/api/embeddings": EMBEDDINGS,
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": CHAT,
    "/v1/messages": CHAT,
    "/v1/systemone": COMPLETION,
}
FAILED = 500  # from this status on the server has failed, not the client
PATH_CHARS = 200

Attributes = dict[str, str | int | float | list[str]]
Phase = tuple[str, int, int]  # name, begin and end in nanoseconds of Unix time


class SpanTracer:
    """Makes spans with a provider of the SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("outrider", version("outrider"))
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def to_collector(cls, environ: Mapping[str, str]) -> Self:
        """Spans go to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, by HTTP, in a thread."""
        attributes = {"service.version": version("outrider")}
        named = environ.get("OTEL_SERVICE_NAME") or environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if "OTEL_SERVICE_NAME" not in environ and "service.name=" not in named:
            attributes["service.name"] = "outrider"
        provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def record(self, request: TracedRequest) -> None:
        """As in the protocol `RequestTracer`."""
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            f"{request.method} {request.route}".rstrip(),
            context=self._propagator.extract(request.headers),
            kind=SpanKind.SERVER,
            attributes=attributes_of(request),
            start_time=end_ns - int(request.took_s * 1e9),
        )
        self._add_phases(span, request.note)
        if request.status >= FAILED:
            span.set_status(StatusCode.ERROR)
        span.end(end_ns)

    def close(self) -> None:
        """As in the protocol `RequestTracer`."""
        self._provider.shutdown()

    def _add_phases(self, parent: Span, note: RequestNote) -> None:
        if not parent.is_recording():
            return
        context, offset_ns = set_span_in_context(parent), time.time_ns() - time.monotonic_ns()
        for ending in note.endings:
            for name, start_ns, end_ns in phases_of(ending, offset_ns):
                span = self._tracer.start_span(name, context=context, start_time=start_ns)
                span.end(end_ns)


def attributes_of(request: TracedRequest) -> Attributes:
    """What is known of a request."""
    note = request.note
    host, _, port = request.server.rpartition(":")
    has_port = bool(host) and port.isdecimal()
    attributes: Attributes = {
        "http.request.method": request.method,
        "http.response.status_code": request.status,
        "url.path": request.path[:PATH_CHARS],
        "server.address": host if has_port else request.server,
        "outrider.request_id": note.id,
    }
    if request.route:
        attributes["http.route"] = request.route
    if has_port:
        attributes["server.port"] = int(port)
    if note.key_name:
        attributes["outrider.api_key.name"] = note.key_name
    if request.status >= FAILED:
        attributes["error.type"] = str(request.status)
    if note.model:
        attributes |= _of_model(request.route, note)
    return attributes


def _of_model(route: str, note: RequestNote) -> Attributes:
    attributes: Attributes = {
        "gen_ai.provider.name": "outrider",
        "gen_ai.request.model": note.model,
        "gen_ai.usage.input_tokens": note.prompt_tokens,
        "gen_ai.usage.output_tokens": note.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": note.cached_tokens,
    }
    if operation := OPERATIONS.get(route):
        attributes["gen_ai.operation.name"] = operation
    if note.endings:
        attributes["gen_ai.response.finish_reasons"] = [each.reason for each in note.endings]
    if note.first_output_s is not None:
        attributes["outrider.first_output_seconds"] = note.first_output_s
    return attributes


def phases_of(ending: Ending, offset_ns: int) -> Iterator[Phase]:
    """Load, queue, prefill and decode of one text; `offset_ns` leads to Unix time."""
    if ending.loaded_ns > ending.start_ns:
        yield "load", ending.start_ns + offset_ns, ending.loaded_ns + offset_ns
    begin_ns = ending.end_ns - ending.queue_ns - ending.prompt_ns - ending.eval_ns + offset_ns
    for name, took_ns in (
        ("queue", ending.queue_ns),
        ("prefill", ending.prompt_ns),
        ("decode", ending.eval_ns),
    ):
        if took_ns:
            yield name, begin_ns, begin_ns + took_ns
        begin_ns += took_ns
