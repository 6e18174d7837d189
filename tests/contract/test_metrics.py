"""/metrics: do the exported figures match the requests?"""

from __future__ import annotations

import re

import pytest
from daemons import Daemon
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.contract

ASK = {"model": "tiny", "prompt": "metrics", "raw": True, "stream": False}


def value(daemon: Daemon, name: str) -> float:
    """The figure of the tiny model; 0 before it is first exported."""
    text = daemon.get("/metrics")[1]["text"]
    found = re.search(rf'^{name}{{[^}}]*model="tiny:latest"[^}}]*}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture(autouse=True)
def _loaded(daemon: Daemon) -> None:
    """The label is the name that loaded the weights, which other names may share."""
    for keep_alive_s in (0, 300):
        body = {"model": "tiny", "keep_alive": keep_alive_s}
        assert daemon.post("/api/generate", body)[0] == 200


def test_a_request_moves_the_counters(daemon: Daemon) -> None:
    names = ("evaluated_prompt_tokens", "decoded_tokens", "steps", "step_seconds", "decode_seconds")
    before = {name: value(daemon, f"outrider_{name}_total") for name in names}
    ended = value(daemon, "outrider_requests_total")
    answer = daemon.post("/api/generate", {**ASK, "options": {"num_predict": 9}})[1]
    moved = {name: value(daemon, f"outrider_{name}_total") - before[name] for name in names}
    assert moved["decoded_tokens"] == 9
    assert 0 < moved["evaluated_prompt_tokens"] <= answer["prompt_eval_count"]
    assert moved["steps"] >= 9
    assert moved["step_seconds"] >= moved["decode_seconds"] > 0
    assert value(daemon, "outrider_requests_total") == ended + 1
    assert value(daemon, "outrider_queue_seconds_count") > 0


def samples(daemon: Daemon) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples, as Prometheus's own parser reads them."""
    families = text_string_to_metric_families(daemon.get("/metrics")[1]["text"])
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_three_requests_of_known_tokens_move_every_counter_as_far(daemon: Daemon) -> None:
    before, asked = samples(daemon), (4, 7, 9)
    answers = [
        daemon.post("/api/generate", {**ASK, "options": {"num_predict": n}})[1] for n in asked
    ]
    assert [answer["eval_count"] for answer in answers] == list(asked)
    after = samples(daemon)

    def moved(name: str, **labels: str) -> float:
        key = f"outrider_{name}", frozenset(labels.items())
        return after.get(key, 0.0) - before.get(key, 0.0)

    tiny = {"model": "tiny:latest"}
    prompts = sum(answer["prompt_eval_count"] for answer in answers)
    cached = moved("cached_prompt_tokens_total", **tiny)
    assert moved("evaluated_prompt_tokens_total", **tiny) + cached == prompts
    assert moved("decoded_tokens_total", **tiny) == sum(asked)
    assert moved("inter_token_seconds_count", **tiny) == sum(asked) - len(asked)
    decoding_s = sum(answer["eval_duration"] for answer in answers) / 1e9
    assert 0 < moved("inter_token_seconds_sum", **tiny) < decoding_s * 1.5
    assert moved("requests_total", **tiny, reason="length") == 3
    assert moved("time_to_first_token_seconds_count", **tiny) == 3
    assert moved("time_to_first_token_seconds_sum", **tiny) > 0
    route = {"route": "/api/generate", "method": "POST", "status": "200", "key": ""}
    assert moved("http_requests_total", **route) == 3
    counters = [key for key in before if key[0].endswith(("_total", "_bucket", "_count", "_sum"))]
    assert [key for key in counters if after.get(key, 0.0) < before[key]] == []


def test_what_a_runner_counted_stays_when_its_model_is_unloaded(daemon: Daemon) -> None:
    daemon.post("/api/generate", {**ASK, "options": {"num_predict": 3}})
    before = value(daemon, "outrider_decoded_tokens_total")
    daemon.post("/api/generate", {"model": "tiny", "keep_alive": 0})
    assert value(daemon, "outrider_decoded_tokens_total") == before > 0
    daemon.post("/api/generate", {**ASK, "options": {"num_predict": 3}})
    assert value(daemon, "outrider_decoded_tokens_total") == before + 3


def test_help_texts_name_drafts_in_the_fields_words(daemon: Daemon) -> None:
    text = daemon.get("/metrics")[1]["text"]
    assert "# HELP outrider_drafted_tokens_total Draft tokens that were verified\n" in text
    assert "# HELP outrider_accepted_tokens_total Draft tokens that were accepted\n" in text


def test_a_repeated_prompt_is_taken_from_the_cache(daemon: Daemon) -> None:
    prompt = "the same words again and again " * 5
    body = {**ASK, "prompt": prompt, "options": {"num_predict": 2}}
    first = daemon.post("/api/generate", body)[1]
    before = value(daemon, "outrider_cached_prompt_tokens_total")
    second = daemon.post("/api/generate", body)[1]
    assert second["prompt_eval_count"] == first["prompt_eval_count"]
    cached = value(daemon, "outrider_cached_prompt_tokens_total") - before
    assert cached == first["prompt_eval_count"] - 1
    assert value(daemon, "outrider_kv_cells_used") >= first["prompt_eval_count"]
