"""Spans of requests, by the SDK's exporter that keeps them in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from front import Front, fill_store, start_front
from outrider.daemon.api.request_log import TRACER
from outrider.daemon.errors import RunnerDied
from outrider.daemon.protocol import Delta, Done

pytestmark = pytest.mark.unit

SDK = "OpenTelemetry is not installed: pip install 'outrider[otel]'"
PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"}
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hm"}]}).encode()
DONE = Done(
    "stop",
    prompt_tokens=5,
    cached_tokens=2,
    queue_ns=1_000,
    prompt_ns=2_000,
    eval_tokens=4,
    eval_ns=3_000,
)


@pytest.fixture
def exporter() -> Any:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason=SDK)
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=SDK
    )
    return memory.InMemorySpanExporter()


@pytest.fixture
async def front(tmp_path: Path, exporter: Any) -> AsyncIterator[Front]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from outrider.daemon.tracing.spans import SpanTracer

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = SpanTracer(provider)
    store = fill_store(tmp_path / "store", tmp_path)
    async with start_front(store, tracer=tracer) as running:
        assert running.client.app
        assert running.client.app[TRACER] is tracer
        yield running
    tracer.close()


async def chat(front: Front) -> int:
    async with front.client.post("/api/chat", data=BODY, headers=HEADERS) as answer:
        await answer.read()
        return answer.status


async def test_a_request_is_a_span_with_its_phases(front: Front, exporter: Any) -> None:
    front.runners.scripts.append((Delta(1, "yes"), Delta(1, done=DONE)))
    await chat(front)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"POST /api/chat", "load", "queue", "prefill", "decode"}
    span = spans["POST /api/chat"]
    assert span.context.trace_id == int(PARENT, 16)
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["gen_ai.request.model"] == "chat:latest"
    assert span.attributes["gen_ai.usage.input_tokens"] == 5
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 2
    assert span.attributes["gen_ai.usage.output_tokens"] == 4
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.attributes["http.route"] == "/api/chat"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["server.port"] == front.client.port
    for name, took_ns in (("queue", 1_000), ("prefill", 2_000), ("decode", 3_000)):
        assert spans[name].end_time - spans[name].start_time == took_ns
        assert spans[name].parent.span_id == span.context.span_id
    assert span.start_time <= spans["load"].start_time < spans["load"].end_time <= span.end_time


async def test_a_failure_of_the_daemon_is_marked(front: Front, exporter: Any) -> None:
    front.runners.scripts.append((RunnerDied("gone"),))
    body = json.loads(BODY) | {"stream": False}
    assert (await front.post("/api/chat", body))[0] == 500
    spans = {span.name: span for span in exporter.get_finished_spans()}
    span = spans["POST /api/chat"]
    assert not span.status.is_ok
    assert span.attributes["error.type"] == "500"
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert span.parent is None


async def test_what_names_no_model_has_no_attributes_of_one(front: Front, exporter: Any) -> None:
    await front.send("GET", "/api/version")
    (span,) = exporter.get_finished_spans()
    assert not [name for name in span.attributes if name.startswith("gen_ai")]
