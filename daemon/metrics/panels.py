"""Which charts does the dashboard have, and by which queries?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MODEL = '{model=~"$model"}'  # the models that are chosen at the top of the page


@dataclass(frozen=True, slots=True)
class Query:
    """An expression in PromQL, and what its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart; `unit` is one of Grafana's."""

    title: str
    unit: str
    queries: Sequence[Query]
    is_stacked: bool = False


def rate(metric: str, labels: str = "model", selector: str = MODEL) -> str:
    """What a counter gains in a second, summed by these labels."""
    return f"sum by ({labels}) (rate(outrider_{metric}{selector}[$__rate_interval]))"


def gains(metric: str, labels: str = "model", selector: str = MODEL) -> str:
    """What a counter gains in the interval of a point, summed by these labels."""
    return f"sum by ({labels}) (increase(outrider_{metric}{selector}[$__rate_interval]))"


def level(metric: str, labels: str = "model", selector: str = MODEL) -> str:
    """A gauge, summed by these labels."""
    return f"sum by ({labels}) (outrider_{metric}{selector})"


def ratio(above: str, below: str, labels: str = "model") -> str:
    """The ratio of what two counters gain, by these labels."""
    return f"{rate(above, labels)} / {rate(below, labels)}"


def quantiles(metric: str) -> tuple[Query, Query]:
    """The median and the 95th percentile of a histogram, by model."""
    buckets = rate(f"{metric}_bucket", "le, model")
    return (
        Query(f"histogram_quantile(0.5, {buckets})", "p50 {{model}}"),
        Query(f"histogram_quantile(0.95, {buckets})", "p95 {{model}}"),
    )


def rows() -> Mapping[str, Sequence[Panel]]:
    """The panels, by the titles of their rows."""
    return {
        "Requests": _requests(),
        "Waits": _waits(),
        "Tokens": _tokens(),
        "Speculative decoding": _speculation(),
        "Models in memory": _models(),
        "Daemon": _daemon(),
    }


def _requests() -> Sequence[Panel]:
    answers, errors = "http_requests_total", '{status=~"4..|5.."}'
    return (
        Panel("Answers", "reqps", (Query(rate(answers, "route", ""), "{{route}}"),)),
        Panel(
            "Errors",
            "reqps",
            (Query(rate(answers, "route, status", errors), "{{status}} {{route}}"),),
        ),
        Panel(
            "Running and queued",
            "short",
            (
                Query(level("slots_busy"), "running {{model}}"),
                Query(level("requests_waiting"), "queued {{model}}"),
                Query("sum(outrider_load_queue_requests)", "queued for a load"),
            ),
        ),
        Panel(
            "Texts by how they ended",
            "reqps",
            (Query(rate("requests_total", "reason"), "{{reason}}"),),
            is_stacked=True,
        ),
    )


def _waits() -> Sequence[Panel]:
    return (
        Panel("Time to first token", "s", quantiles("time_to_first_token_seconds")),
        Panel("Time per token", "s", quantiles("inter_token_seconds")),
        Panel("Time in the queue", "s", quantiles("queue_seconds")),
        Panel("Whole request", "s", quantiles("request_seconds")),
    )


def _tokens() -> Sequence[Panel]:
    evaluated, cached = "evaluated_prompt_tokens_total", "cached_prompt_tokens_total"
    share = f"{rate(cached)} / ({rate(cached)} + {rate(evaluated)})"
    return (
        Panel("Tokens written", "tps", (Query(rate("decoded_tokens_total"), "{{model}}"),)),
        Panel(
            "Prompt tokens",
            "tps",
            (
                Query(rate(evaluated), "evaluated {{model}}"),
                Query(rate(cached), "cached {{model}}"),
            ),
        ),
        Panel("Prompt tokens from the cache", "percentunit", (Query(share, "{{model}}"),)),
        Panel(
            "Time of a step", "s", (Query(ratio("step_seconds_total", "steps_total"), "{{model}}"),)
        ),
    )


def _speculation() -> Sequence[Panel]:
    by = "model, drafter"
    legend = "{{drafter}} {{model}}"
    return (
        Panel(
            "Estimated gain over plain decoding (1: none)",
            "none",
            (Query(ratio("plain_seconds_total", "speculated_seconds_total"), "{{model}}"),),
        ),
        Panel(
            "Accepted draft tokens",
            "percentunit",
            (Query(ratio("accepted_tokens_total", "drafted_tokens_total", by), legend),),
        ),
        Panel(
            "Draft length",
            "none",
            (Query(ratio("drafted_tokens_total", "drafts_total", by), legend),),
        ),
        Panel(
            "Gain of steps with a draft",
            "none",
            (Query(ratio("draft_plain_seconds_total", "draft_step_seconds_total", by), legend),),
        ),
    )


def _models() -> Sequence[Panel]:
    changes = ("loads_total", "evictions_total", "load_failures_total", "load_refusals_total")
    names = ("loads", "evictions", "failed loads", "refusals")
    return (
        Panel(
            "Memory by device",
            "bytes",
            (Query(level("memory_bytes", "device, model"), "{{device}} {{model}}"),),
            is_stacked=True,
        ),
        Panel(
            "Memory by part",
            "bytes",
            (Query(level("memory_bytes", "part"), "{{part}}"),),
            is_stacked=True,
        ),
        Panel(
            "Loads and evictions",
            "short",
            tuple(
                Query(gains(metric), f"{name} {{{{model}}}}")
                for metric, name in zip(changes, names, strict=True)
            ),
        ),
        Panel(
            "Runners and templates that failed",
            "short",
            (
                Query(gains("runner_deaths_total"), "deaths {{model}}"),
                Query(gains("renderings_killed_total"), "templates stopped {{model}}"),
            ),
        ),
    )


def _daemon() -> Sequence[Panel]:
    return (
        Panel(
            "Connections",
            "short",
            (
                Query("sum(outrider_connections_open)", "open"),
                Query(gains("connections_refused_total", "job", ""), "refused"),
            ),
        ),
        Panel(
            "Warnings and errors in the log",
            "short",
            (Query(gains("log_records_total", "level", ""), "{{level}}"),),
            is_stacked=True,
        ),
        Panel(
            "Time of a load",
            "s",
            (Query(ratio("load_seconds_total", "loads_total"), "{{model}}"),),
        ),
        Panel(
            "Version",
            "none",
            (
                Query(
                    "sum by (version, llama_cpp_python) (outrider_build_info)",
                    "{{version}}, llama-cpp-python {{llama_cpp_python}}",
                ),
            ),
        ),
    )
