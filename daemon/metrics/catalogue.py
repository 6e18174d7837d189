"""Which metrics are there? Name, kind, labels and help text of each, for code, docs and dashboard.

Names follow Prometheus: base units, and `_total` for counters. Labels have a bounded number of
values: routes are the daemon's own, of models at most `MAX_MODELS` are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True, slots=True)
class MetricFact:
    """One metric as it is exported."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def _table(*rows: tuple[str, str, str, str]) -> Mapping[str, MetricFact]:
    """Rows: name without the prefix, kind, labels, help text."""
    facts = (
        MetricFact(f"outrider_{row[0]}", row[1], tuple(row[2].split()), row[3]) for row in rows
    )
    return {fact.name: fact for fact in facts}


REQUESTS = _table(
    (
        "http_requests_total",
        COUNTER,
        "route method status key",
        "Answers over HTTP, by the name of the API key; status 499: the client left before",
    ),
    ("http_request_seconds", HISTOGRAM, "route", "Time to the end of the answer"),
    ("http_requests_running", GAUGE, "", "Requests that are being answered"),
    (
        "requests_total",
        COUNTER,
        "model reason",
        "Texts by how they ended: stop, length, cancel (the client left) or error",
    ),
    (
        "time_to_first_token_seconds",
        HISTOGRAM,
        "model",
        "From the arrival of a request to its first output, loads and waits included",
    ),
    ("queue_seconds", HISTOGRAM, "model", "Wait for a slot"),
    ("prompt_seconds", HISTOGRAM, "model", "Slot to first token"),
    ("request_seconds", HISTOGRAM, "model", "From the arrival of a request to its end"),
    (
        "renderings_killed_total",
        COUNTER,
        "model",
        "Chat templates that were stopped for the time or memory that they took",
    ),
)
STATS = _table(
    ("steps_total", COUNTER, "model", "Batches that were decoded"),
    ("step_seconds_total", COUNTER, "model", "Time in steps of the engine"),
    ("decode_seconds_total", COUNTER, "model", "Step time inside llama.cpp"),
    ("evaluated_prompt_tokens_total", COUNTER, "model", "Prompt tokens that were evaluated"),
    ("cached_prompt_tokens_total", COUNTER, "model", "Prompt tokens taken from the cache"),
    ("decoded_tokens_total", COUNTER, "model", "Tokens that were sampled"),
    ("preemptions_total", COUNTER, "model", "Running requests that were preempted"),
    ("speculated_seconds_total", COUNTER, "model", "Decoding time of all requests"),
    (
        "plain_seconds_total",
        COUNTER,
        "model",
        "Estimated decoding time without speculation; divided by speculated_seconds: its gain",
    ),
    (
        "expected_decode_seconds_total",
        COUNTER,
        "model",
        "Decoding time by estimated step costs",
    ),
    (
        "misjudged_decode_seconds_total",
        COUNTER,
        "model",
        "Absolute error of these estimates",
    ),
    ("slots_busy", GAUGE, "model", "Requests that are being decoded"),
    ("requests_waiting", GAUGE, "model", "Requests that wait for a slot"),
    ("kv_cells_used", GAUGE, "model", "KV cells that hold a token"),
)
DRAFTERS = _table(
    ("drafts_total", COUNTER, "model drafter", "Drafts, at most one per request and step"),
    ("drafted_tokens_total", COUNTER, "model drafter", "Draft tokens that were verified"),
    ("accepted_tokens_total", COUNTER, "model drafter", "Draft tokens that were accepted"),
    (
        "draft_step_seconds_total",
        COUNTER,
        "model drafter",
        "Decoding time of requests in steps with a draft for them",
    ),
    (
        "draft_plain_seconds_total",
        COUNTER,
        "model drafter",
        "Estimated time of the same tokens without speculation",
    ),
)
GAPS = _table(
    (
        "inter_token_seconds",
        HISTOGRAM,
        "model",
        "Time per token after the first one; tokens of one step share its time",
    ),
)
POOL = _table(
    ("loads_total", COUNTER, "model", "Models that were loaded"),
    ("load_seconds_total", COUNTER, "model", "Time of these loads"),
    ("load_failures_total", COUNTER, "model", "Models that did not come up"),
    ("load_refusals_total", COUNTER, "model", "Requests whose model cannot fit"),
    (
        "evictions_total",
        COUNTER,
        "model kind",
        "Models unloaded for another one: idle ones, or after their last request was waited for",
    ),
    (
        "runner_deaths_total",
        COUNTER,
        "model",
        "Runners that ended without being told to; the next request loads the model again",
    ),
    ("load_queue_requests", GAUGE, "", "Requests that wait for a load"),
    ("memory_bytes", GAUGE, "model device part", "Memory of a loaded model, by device and part"),
    ("loaded_models", GAUGE, "", "Models in memory"),
)
DAEMON = _table(
    ("connections_open", GAUGE, "", "Open connections"),
    ("connections_refused_total", COUNTER, "", "Connections beyond the bounds of the settings"),
    ("log_records_total", COUNTER, "level", "Lines of the log that are warnings or errors"),
    ("build_info", GAUGE, "version python llama_cpp_python", "Always 1; the versions are labels"),
)
CATALOGUE: Mapping[str, MetricFact] = {**REQUESTS, **STATS, **DRAFTERS, **GAPS, **POOL, **DAEMON}
