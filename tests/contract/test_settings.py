"""A real daemon with settings of its own (CONTRACT 4 and 5.1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import start_daemon
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.contract

LOAD_NS = 100_000_000  # a load takes longer, a lease on a loaded model does not


def test_odd_values_of_ollamas_are_logged_and_clients_take_turns(tmp_path: Path) -> None:
    root = tmp_path / "models"
    import_gguf(root, "tiny", write_llama(tmp_path / "t.gguf", context=2048))
    env = {"OLLAMA_NUM_PARALLEL": "0", "OLLAMA_KV_CACHE_TYPE": "q5_1", "OLLAMA_MAX_QUEUE": "x"}
    with start_daemon(root, tmp_path, env=env) as daemon:
        loads = 0
        for options in ({"num_ctx": 2048}, {"num_ctx": 512}, {}) * 2:
            body = {"model": "tiny", "prompt": "x", "stream": False}
            few = {"num_predict": 2, **options}
            status, answer = daemon.post("/api/generate", {**body, "options": few})
            assert status == 200
            loads += answer["load_duration"] > LOAD_NS
        assert loads <= 1
        (row,) = daemon.get("/api/ps")[1]["models"]
        assert row["context_length"] == 2048
        assert daemon.get("/openapi.json")[1]["openapi"] == "3.1.0"
        log = daemon.log.read_text()
    assert "OLLAMA_KV_CACHE_TYPE='q5_1' is ignored, the default is used: " in log
    assert "OLLAMA_MAX_QUEUE='x' is ignored, the default is used: " in log
    assert "OLLAMA_NUM_PARALLEL" not in log


def test_flash_attention_can_be_turned_on_and_off(tmp_path: Path) -> None:
    root = tmp_path / "models"
    import_gguf(root, "tiny", write_llama(tmp_path / "t.gguf"))
    body = {"model": "tiny", "prompt": "x", "stream": False, "options": {"num_predict": 2}}
    for env in (
        {"OLLAMA_FLASH_ATTENTION": "0"},
        {"OLLAMA_FLASH_ATTENTION": "1"},
    ):
        with start_daemon(root, tmp_path, env=env) as daemon:
            answer = daemon.post("/api/generate", body)
            assert answer[0] == 200, answer
