"""Which metrics does the daemon export to Prometheus?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .protocol import Done
from .runners.memory_table import measured_parts
from .runners.pool import LoadedModel, RunnerPool
from .runners.pool_counters import PoolCounters

# Bucket bounds of the histograms, seconds.
WAITS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
NS = 1e-9  # seconds

# field of Stats: (metric, help, factor to the metric's unit)
TOTALS = {
    "steps": ("outrider_steps", "Batches that were decoded", 1),
    "step_ns": ("outrider_step_seconds", "Time in steps of the engine", NS),
    "decode_ns": ("outrider_decode_seconds", "Step time inside llama.cpp", NS),
    "prompt_tokens": ("outrider_evaluated_prompt_tokens", "Prompt tokens that were evaluated", 1),
    "cached_tokens": ("outrider_cached_prompt_tokens", "Prompt tokens taken from the cache", 1),
    "drafted_tokens": ("outrider_drafted_tokens", "Draft tokens that were verified", 1),
    "accepted_tokens": ("outrider_accepted_tokens", "Draft tokens that were accepted", 1),
    "drafts": ("outrider_drafts", "Drafts, at most one per request and step", 1),
    "speculated_ns": ("outrider_speculated_seconds", "Decoding time of all requests", NS),
    "plain_ns": ("outrider_plain_seconds", "Estimated decoding time without speculation", NS),
    "expected_ns": (
        "outrider_expected_decode_seconds",
        "Decoding time by estimated step costs",
        NS,
    ),
    "misjudged_ns": ("outrider_misjudged_decode_seconds", "Absolute error of these estimates", NS),
    "preempted": ("outrider_preemptions", "Running requests that were preempted", 1),
    "decoded_tokens": ("outrider_decoded_tokens", "Tokens that were sampled", 1),
}
LEVELS = {
    "slots_busy": ("outrider_slots_busy", "Requests that are being decoded", 1),
    "waiting": ("outrider_requests_waiting", "Requests that wait for a slot", 1),
    "cells_used": ("outrider_kv_cells_used", "KV cells that hold a token", 1),
}


class Metrics:
    """Counts finished requests; the runners' counters are read at each scrape."""

    def __init__(self, pool: RunnerPool) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Runners(pool))
        labels, registry = ("model", "reason"), self._registry
        self._requests = Counter(
            "outrider_requests", "Answers by how they ended", labels, registry=registry
        )
        histogram = partial(Histogram, labelnames=["model"], buckets=WAITS_S, registry=registry)
        self._queue_s = histogram("outrider_queue_seconds", "Wait for a slot")
        self._first_s = histogram("outrider_prompt_seconds", "Slot to first token")

    def count(self, model: str, done: Done) -> None:
        """A request has ended."""
        self._requests.labels(model, done.reason).inc()
        self._queue_s.labels(model).observe(done.queue_ns * NS)
        self._first_s.labels(model).observe(done.prompt_ns * NS)

    def render(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Runners(Collector):
    """The last statistics of the runner of each loaded model."""

    def __init__(self, pool: RunnerPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        loaded_models = self._pool.loaded_models
        for family, table in ((CounterMetricFamily, TOTALS), (GaugeMetricFamily, LEVELS)):
            for field, (name, text, factor) in table.items():
                metric = family(name, text, labels=("model",))
                for model, value in _by_model(loaded_models, field).items():
                    metric.add_metric((model,), value * factor)
                yield metric
        yield _memory(loaded_models)
        yield from _pool_totals(self._pool.counters)


def _memory(loaded_models: Iterable[LoadedModel]) -> Metric:
    """What is allocated, as measured after the load."""
    gauge = GaugeMetricFamily(
        "outrider_memory_bytes",
        "Memory of a loaded model, by device and part",
        labels=("model", "device", "part"),
    )
    sums: dict[tuple[str, str, str], int] = {}
    for loaded in loaded_models:
        for device, part, num_bytes in measured_parts(loaded):
            key = loaded.spec.name, device, part
            sums[key] = sums.get(key, 0) + num_bytes
    for key, num_bytes in sums.items():
        gauge.add_metric(key, num_bytes)
    return gauge


def _pool_totals(counters: PoolCounters) -> Iterator[Metric]:
    """What the pool has done since the daemon started."""
    for (name, text), sums in (
        (("outrider_loads", "Models that were loaded"), counters.loads),
        (("outrider_load_seconds", "Time of these loads"), counters.load_s),
        (("outrider_load_refusals", "Requests whose model cannot fit"), counters.refusals),
    ):
        metric = CounterMetricFamily(name, text, labels=("model",))
        for model, value in sums.items():
            metric.add_metric((model,), value)
        yield metric
    evictions = CounterMetricFamily(
        "outrider_evictions",
        "Models unloaded for another one: idle ones, or after their last request was waited for",
        labels=("model", "kind"),
    )
    for key, value in counters.evictions.items():
        evictions.add_metric(key, value)
    yield evictions


def _by_model(loaded_models: Iterable[LoadedModel], field: str) -> dict[str, float]:
    """A model that is loaded for text and for embeddings is one series: Prometheus takes no two."""
    sums: dict[str, float] = {}
    for loaded in loaded_models:
        name, value = loaded.spec.name, float(getattr(loaded.runner.stats, field))
        sums[name] = sums.get(name, 0) + value
    return sums
