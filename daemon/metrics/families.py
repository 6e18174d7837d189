"""How do figures become the metrics of the catalogue?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ..protocol import TOKEN_GAP_BOUNDS_S, DrafterStats, Stats
from ..runners.loaded_model import LoadedModel
from ..runners.memory_table import measured_parts
from ..runners.pool import RunnerPool
from .catalogue import CATALOGUE, COUNTER
from .histogram import DurationHistogram, cumulate
from .request_metrics import NS, ModelRequests, RequestMetrics

Labels = tuple[str, ...]
LabelValues = TypeVar("LabelValues", bound=tuple[str, ...])
TOTALS: Mapping[str, tuple[str, float]] = {  # metric: field of Stats, factor to the metric's unit
    "steps_total": ("steps", 1),
    "step_seconds_total": ("step_ns", NS),
    "decode_seconds_total": ("decode_ns", NS),
    "evaluated_prompt_tokens_total": ("prompt_tokens", 1),
    "cached_prompt_tokens_total": ("cached_tokens", 1),
    "decoded_tokens_total": ("decoded_tokens", 1),
    "preemptions_total": ("preempted", 1),
    "speculated_seconds_total": ("speculated_ns", NS),
    "plain_seconds_total": ("plain_ns", NS),
    "expected_decode_seconds_total": ("expected_ns", NS),
    "misjudged_decode_seconds_total": ("misjudged_ns", NS),
}
LEVELS: Mapping[str, str] = {  # metric: field of Stats
    "slots_busy": "slots_busy",
    "requests_waiting": "waiting",
    "kv_cells_used": "cells_used",
}
DRAFTER_TOTALS: Mapping[str, tuple[str, float]] = {  # metric: field of DrafterStats, factor
    "drafts_total": ("drafts", 1),
    "drafted_tokens_total": ("drafted", 1),
    "accepted_tokens_total": ("accepted", 1),
    "draft_step_seconds_total": ("took_ns", NS),
    "draft_plain_seconds_total": ("plain_ns", NS),
}


def family(name: str, values: Mapping[LabelValues, float]) -> Metric:
    """A counter or gauge of the catalogue with these values, by labels."""
    fact = CATALOGUE[f"outrider_{name}"]
    make = CounterMetricFamily if fact.kind == COUNTER else GaugeMetricFamily
    metric = make(fact.name, fact.text, labels=fact.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


def histogram(name: str, values: Mapping[str, DurationHistogram]) -> Metric:
    """A histogram of the catalogue, by its only label."""
    fact = CATALOGUE[f"outrider_{name}"]
    metric = HistogramMetricFamily(fact.name, fact.text, labels=fact.labels)
    for label, each in values.items():
        metric.add_metric((label,), each.buckets, each.total_s)
    return metric


def of_requests(requests: RequestMetrics) -> Iterator[Metric]:
    """What the front counts."""
    yield family("http_requests_total", requests.answers)
    yield histogram("http_request_seconds", requests.route_s)
    yield family("http_requests_running", {(): requests.num_running})
    models = requests.by_model
    endings = {
        (model, reason): float(count)
        for model, each in models.items()
        for reason, count in each.endings.items()
    }
    yield family("requests_total", endings)
    yield from _waits(models)
    killed = {(model,): float(each.killed) for model, each in models.items()}
    yield family("renderings_killed_total", killed)


def _waits(models: Mapping[str, ModelRequests]) -> Iterator[Metric]:
    yield histogram(
        "time_to_first_token_seconds", {name: each.first_s for name, each in models.items()}
    )
    yield histogram("queue_seconds", {name: each.queue_s for name, each in models.items()})
    yield histogram("prompt_seconds", {name: each.prompt_s for name, each in models.items()})
    yield histogram("request_seconds", {name: each.total_s for name, each in models.items()})


def of_stats(stats: Mapping[str, Stats], loaded_names: set[str]) -> Iterator[Metric]:
    """What the runners count, those that are gone included; gauges of loaded models alone."""
    for name, (attribute, factor) in TOTALS.items():
        yield family(name, {(m,): getattr(s, attribute) * factor for m, s in stats.items()})
    for name, attribute in LEVELS.items():
        loaded = {m: s for m, s in stats.items() if m in loaded_names}
        yield family(name, {(m,): getattr(s, attribute) for m, s in loaded.items()})
    drafters = {(model, each.name): each for model, s in stats.items() for each in s.drafters}
    for name, (attribute, factor) in DRAFTER_TOTALS.items():
        yield family(name, {key: _value(each, attribute, factor) for key, each in drafters.items()})
    yield _gaps(stats)


def _value(stats: DrafterStats, attribute: str, factor: float) -> float:
    return float(getattr(stats, attribute)) * factor


def _gaps(stats: Mapping[str, Stats]) -> Metric:
    fact = CATALOGUE["outrider_inter_token_seconds"]
    metric = HistogramMetricFamily(fact.name, fact.text, labels=fact.labels)
    for model, each in stats.items():
        if each.gap_counts:
            buckets = cumulate(TOKEN_GAP_BOUNDS_S, each.gap_counts)
            metric.add_metric((model,), buckets, each.gap_ns * NS)
    return metric


def of_pool(pool: RunnerPool) -> Iterator[Metric]:
    """What the pool has done, and what is in memory."""
    counters, loaded_models = pool.counters, pool.loaded_models
    yield family("loads_total", _by_model(counters.loads))
    yield family("load_seconds_total", _by_model(counters.load_s))
    yield family("load_failures_total", _by_model(counters.failures))
    yield family("load_refusals_total", _by_model(counters.refusals))
    yield family("evictions_total", counters.evictions)
    yield family("runner_deaths_total", _by_model(counters.deaths))
    yield family("load_queue_requests", {(): pool.num_queued})
    yield family("memory_bytes", _memory(loaded_models))
    yield family("loaded_models", {(): len(loaded_models)})


def _by_model(table: Mapping[str, float]) -> dict[Labels, float]:
    return {(model,): value for model, value in table.items()}


def _memory(loaded_models: Iterable[LoadedModel]) -> dict[Labels, float]:
    """What is allocated, as measured after the load.

    A model that is loaded for text and for embeddings is one series: Prometheus takes no two.
    """
    sums: dict[Labels, float] = {}
    for loaded in loaded_models:
        for device, part, num_bytes in measured_parts(loaded):
            key = loaded.spec.name, device, part
            sums[key] = sums.get(key, 0) + num_bytes
    return sums
