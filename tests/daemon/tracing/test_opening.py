"""Is a request traced? Only where a collector is named, and OpenTelemetry is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from outrider.daemon.tracing import opening
from outrider.daemon.tracing.opening import open_tracer

pytestmark = pytest.mark.unit

HERE = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_SDK_DISABLED": "True"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_is_traced(environ: dict[str, str]) -> None:
    assert open_tracer(environ) is None


def test_a_missing_package_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, f"{opening.__package__}.spans", None)  # cannot be imported
    assert open_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}) is None
    assert "pip install 'outrider[otel]'" in caplog.text


def test_the_daemon_does_not_import_it() -> None:
    code = "import sys, outrider.daemon.serving; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
