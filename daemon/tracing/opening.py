"""Is there a collector to which requests are told?"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .tracer import RequestTracer

# Variables of OpenTelemetry's specification ("OTLP Exporter Configuration").
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
NOT_INSTALLED = (
    "%s is set, but no request is traced: OpenTelemetry is not installed; "
    "pip install 'outrider[otel]'"
)

log = logging.getLogger("outrider")


def open_tracer(environ: Mapping[str, str]) -> RequestTracer | None:
    """A tracer for the collector that the environment names; None for none."""
    endpoint = next((name for name in ENDPOINTS if environ.get(name)), "")
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not endpoint or is_off or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    try:
        from .spans import SpanTracer
    except ImportError:
        log.warning(NOT_INSTALLED, endpoint)
        return None
    return SpanTracer.to_collector(environ)
