"""/metrics: do the exported figures match the requests?"""

from __future__ import annotations

import re

import pytest
from daemons import Daemon

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
