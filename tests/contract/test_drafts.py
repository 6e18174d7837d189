"""A model that brings a drafter: as its clients and its owner see it (CONTRACT 9)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon, Json, start_daemon
from outrider.daemon.cli.entry import exit_code
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from weights import import_gguf

pytestmark = pytest.mark.contract

PROMPT = "over the hills and far away, the quick brown fox jumps over the lazy dog, and then "


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    target = write_gemma4(folder / "target.gguf")
    assistant = write_gemma4_assistant(folder / "mtp.gguf", target)
    import_gguf(root, "pair", target, draft=assistant)
    import_gguf(root, "fixed", target, draft=assistant, params={"draft_num_predict": 0})
    import_gguf(root, "mismatch", write_llama(folder / "llama.gguf"), draft=assistant)
    return root


@pytest.fixture(scope="module")
def drafting(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    env = {"OUTRIDER_SPECULATION": "3", "OUTRIDER_KV_CACHE_TYPE": "f32"}
    with start_daemon(root, tmp_path_factory.mktemp("log"), env=env) as daemon:
        yield daemon


def generate(daemon: Daemon, model: str, **options: object) -> Json:
    options = {"num_predict": 40, "temperature": 0, **options}
    body = {"model": model, "prompt": PROMPT, "raw": True, "stream": False, "options": options}
    status, answer = daemon.post("/api/generate", body)
    assert status == 200, answer
    return answer


def speculating(daemon: Daemon, model: str) -> Json:
    (row,) = [row for row in daemon.get("/api/ps")[1]["models"] if row["name"] == f"{model}:latest"]
    return row["speculation"]


def test_a_draft_layer_is_used(drafting: Daemon) -> None:
    with_drafter = generate(drafting, "pair")
    plain = generate(drafting, "pair", draft_num_predict=0)
    assert with_drafter["response"] == plain["response"]
    assert "speculation" not in plain
    assert with_drafter["speculation"]["drafter"] == "assistant"
    assert with_drafter["speculation"]["drafted"] > 0
    told = speculating(drafting, "pair")
    assert told["drafters"] == ["ngram", "assistant"]
    assert told["drafted"] >= with_drafter["speculation"]["drafted"]
    assert told["estimated_speedup"] > 0
    assert "refusal" not in told


def test_what_was_learned_is_kept(drafting: Daemon) -> None:
    generate(drafting, "pair")
    files = list((drafting.log.parent / "outrider" / "speculation").glob("*.json"))
    assert files
    assert all('"verify"' in file.read_text() for file in files)


def test_a_parameter_of_the_model_bounds_the_drafts(drafting: Daemon) -> None:
    assert "speculation" not in generate(drafting, "fixed")
    assert generate(drafting, "fixed", draft_num_predict=2)["speculation"]["mean_length"] <= 2


def test_a_drafter_of_another_model_is_refused_aloud(drafting: Daemon) -> None:
    assert generate(drafting, "mismatch")["response"]
    refusal = speculating(drafting, "mismatch")["refusal"]
    assert "a gemma4-assistant drafts for gemma4, and this is llama" in refusal
    assert refusal in drafting.log.read_text()


def run(daemon: Daemon, *words: str) -> int:
    return exit_code(["--host", daemon.url, *words])


@pytest.mark.timeout(300)
def test_bench_shows_every_way(
    drafting: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    words = ("--streams", "1,2", "--temperatures", "0", "--runs", "1", "--num-predict", "400")
    assert run(drafting, "bench", "pair", *words, "--html", str(page)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pair, drafted by ngram and assistant")
    assert len(lines) == 2 + 2 * 3 + 1
    assert all("x " in line for line in lines[2:-1])
    assert page.read_text().count("<svg") == 6


def test_verify_compares_token_by_token(
    drafting: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(drafting, "verify", "pair") == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("18 answers with ")
    assert last.endswith(" 0 are different")


def test_where_no_drafter_is_active_both_say_why(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_daemon(root, tmp_path, env={"OUTRIDER_SPECULATION": "off"}) as daemon:
        for verb in ("bench", "verify"):
            assert run(daemon, verb, "pair") == 1
            told = "no drafter is active for pair: the daemon runs with --speculation off"
            assert told in capsys.readouterr().err
        assert run(daemon, "bench", "pair", "--streams", "some") == 1
    assert "'some' is not a list of numbers" in capsys.readouterr().err
