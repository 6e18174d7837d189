"""Which metrics the daemon exports to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST as CONTENT_TYPE_LATEST,
)
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .protocol import Done
from .runners.pool import LoadedModel, RunnerPool

BUCKETS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # upper bounds, in seconds
NS = 1e-9  # seconds in a nanosecond

F = TypeVar("F", CounterMetricFamily, GaugeMetricFamily)

# By field of Stats: the metric, its help text, and the factor from the field's unit to its own.
TOTALS = {
    "steps": ("outrider_steps", "Decoded batches", 1),
    "step_ns": ("outrider_step_seconds", "Time in engine steps", NS),
    "decode_ns": (
        "outrider_decode_seconds",
        "Time in engine steps that was spent in llama.cpp",
        NS,
    ),
    "prompt_tokens": ("outrider_evaluated_prompt_tokens", "Prompt tokens evaluated (prefill)", 1),
    "cached_tokens": (
        "outrider_cached_prompt_tokens",
        "Prompt tokens found in the prefix cache",
        1,
    ),
    "drafted_tokens": ("outrider_drafted_tokens", "Draft tokens verified", 1),
    "accepted_tokens": ("outrider_accepted_tokens", "Draft tokens accepted", 1),
    "drafts": ("outrider_drafts", "Drafts, each of one or more tokens for one request", 1),
    "speculated_ns": ("outrider_speculated_seconds", "Decoding time of requests with drafters", NS),
    "plain_ns": (
        "outrider_plain_seconds",
        "Estimated decoding time of the same tokens without drafts",
        NS,
    ),
    "expected_ns": (
        "outrider_expected_decode_seconds",
        "Decoding time predicted by the step-cost model",
        NS,
    ),
    "misjudged_ns": (
        "outrider_misjudged_decode_seconds",
        "Absolute error of the predicted decoding time",
        NS,
    ),
    "preempted": ("outrider_preemptions", "Preemptions of running requests", 1),
    "decoded_tokens": ("outrider_decoded_tokens", "Output tokens", 1),
}
LEVELS = {
    "slots_busy": ("outrider_slots_busy", "Slots in use"),
    "waiting": ("outrider_requests_waiting", "Requests waiting for a slot"),
    "cells_used": ("outrider_kv_cells_used", "KV cells in use"),
}


class Metrics:
    """Counts finished requests; the other metrics are read from the runners on each scrape."""

    def __init__(self, pool: RunnerPool) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(RunnerCollector(pool))
        label = ("model",)
        self._requests = Counter(
            "outrider_requests",
            "Finished requests by reason",
            ("model", "reason"),
            registry=self._registry,
        )
        self._queue_s = self._histogram(
            "outrider_queue_seconds", "Time until a request gets a slot", label
        )
        self._first_s = self._histogram(
            "outrider_prompt_seconds", "Time from the slot to the first token", label
        )

    def _histogram(self, name: str, text: str, labels: Iterable[str]) -> Histogram:
        return Histogram(name, text, labels, buckets=BUCKETS_S, registry=self._registry)

    def count(self, model: str, done: Done) -> None:
        """Record a finished request."""
        self._requests.labels(model, done.reason).inc()
        self._queue_s.labels(model).observe(done.queue_ns * NS)
        self._first_s.labels(model).observe(done.prompt_ns * NS)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class RunnerCollector(Collector):
    """The latest statistics of each loaded model's runner."""

    def __init__(self, pool: RunnerPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        for field, (name, text, factor) in TOTALS.items():
            yield self._fill(CounterMetricFamily(name, text, labels=("model",)), field, factor)
        for field, (name, text) in LEVELS.items():
            yield self._fill(GaugeMetricFamily(name, text, labels=("model",)), field, 1)

    def _fill(self, family: F, field: str, factor: float) -> F:
        for model, value in _by_model(self._pool.loaded_models, field).items():
            family.add_metric((model,), value * factor)
        return family


def _by_model(loaded_models: Iterable[LoadedModel], field: str) -> dict[str, float]:
    """Sums by name: a model loaded for text and for embeddings must be one series in Prometheus."""
    sums: dict[str, float] = {}
    for loaded in loaded_models:
        sums[loaded.name] = sums.get(loaded.name, 0) + float(getattr(loaded.runner.stats, field))
    return sums
