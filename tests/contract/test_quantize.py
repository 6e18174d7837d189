"""Quantising: `quantize` and `draft_quantize` of /api/create (CONTRACT 7.4), and the command."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon, Json, start_daemon
from ollama_folder import files
from outrider.quant.gguf import read_header
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    gemma4 = write_gemma4(folder / "gemma4.gguf")
    write_gemma4_assistant(folder / "assistant.gguf", gemma4)
    write_llama(folder / "wide.gguf", embd=256, vocab=4096)
    return folder


@pytest.fixture(scope="module")
def quantizing(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with start_daemon(root, tmp_path_factory.mktemp("log")) as daemon:
        yield daemon


def outrider(daemon: Daemon, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outrider.daemon", *map(str, args)]
    env = {**os.environ, "OUTRIDER_HOST": daemon.url}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


def upload(daemon: Daemon, path: Path) -> str:
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert daemon.send(f"/api/blobs/{digest}", data)[0] in (200, 201)
    return digest


def details(daemon: Daemon, model: str) -> Json:
    return dict(daemon.post("/api/show", {"model": model})[1]["details"])


def test_the_statuses_come_in_order_with_sizes(quantizing: Daemon, folder: Path) -> None:
    digest = upload(quantizing, folder / "gemma4.gguf")
    body = {"model": "q8", "files": {"gemma4.gguf": digest}, "quantize": "q8_0"}
    lines = list(quantizing.lines("/api/create", body))
    progress = [line for line in lines if line["status"] == "quantizing F32 model to Q8_0"]
    assert {line["digest"] for line in progress} == {"0000000000000000000"}
    assert progress[0]["completed"] == 0
    assert progress[-1]["completed"] == progress[-1]["total"]
    statuses = list(dict.fromkeys(str(line["status"]) for line in lines))
    assert statuses[:3] == [
        *("parsing GGUF", "quantizing F32 model to Q8_0", "verifying conversion"),
    ]
    assert any(status.startswith("creating new layer sha256:") for status in statuses)
    assert statuses[-2:] == ["writing manifest", "success"]
    assert details(quantizing, "q8")["quantization_level"] == "Q8_0"


def test_a_model_that_cannot_be_quantised_is_refused(quantizing: Daemon, root: Path) -> None:
    before = files(root)
    for field, status, text in (
        ("quantize", 500, "quantization is only supported for F16, BF16 and F32 models"),
        ("draft_quantize", 400, "--draft-quantize requires a DRAFT model"),
    ):
        body = {"model": "q4", "from": "q8", field: "q4_0", "stream": False}
        assert quantizing.post("/api/create", body) == (status, {"error": text})
    assert files(root) == before


def test_the_command_quantises_model_and_drafter(quantizing: Daemon, folder: Path) -> None:
    (folder / "Modelfile").write_text("FROM ./gemma4.gguf\nDRAFT ./assistant.gguf\n")
    file = folder / "Modelfile"
    made = outrider(
        quantizing, *("create", "pair", "-f", file, "-q", "f16", "--draft-quantize", "q8_0")
    )
    assert made.returncode == 0, made.stderr
    assert "quantizing F32 model to F16\n" in made.stderr
    assert "quantizing F32 model to Q8_0\n" in made.stderr
    assert details(quantizing, "pair")["quantization_level"] == "F16"


def test_a_trimmed_drafter_drafts_and_changes_no_answer(quantizing: Daemon, folder: Path) -> None:
    small = folder / "small.gguf"
    made = outrider(
        quantizing, *("quantize", folder / "assistant.gguf", small, "Q8_0", "--draft-vocab", "120")
    )
    assert made.returncode == 0, made.stderr
    (folder / "plain").write_text("FROM ./gemma4.gguf\n")
    (folder / "drafting").write_text("FROM ./gemma4.gguf\nDRAFT ./small.gguf\n")
    answers = {}
    for name in ("plain", "drafting"):
        assert outrider(quantizing, "create", name, "-f", folder / name).returncode == 0
        options = {"temperature": 0, "num_predict": 60, "draft_num_predict": 4}
        body = {"model": name, "prompt": "the fox", "raw": True, "stream": False}
        answers[name] = quantizing.post("/api/generate", {**body, "options": options})[1]
    assert answers["plain"]["response"] == answers["drafting"]["response"]
    (loaded,) = (
        m for m in quantizing.get("/api/ps")[1]["models"] if m["name"] == "drafting:latest"
    )
    assert "assistant" in loaded["speculation"]["drafters"]
    assert "refusal" not in loaded["speculation"]


def test_an_interrupt_of_the_command_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "outrider.daemon", "quantize"]
    args = [folder / "wide.gguf", tmp_path / "out.gguf", "IQ3_S", "--threads", "1"]
    with subprocess.Popen([*command, *map(str, args)], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        assert child.stderr.readline() == "quantizing to IQ3_S\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_file_or_one_error(folder: Path, tmp_path: Path) -> None:
    def run(*args: str | Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "outrider.daemon", "quantize", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    source, target = folder / "gemma4.gguf", tmp_path / "q.gguf"
    assert run(source, target, "bf16") == (0, "quantizing to BF16\nsuccess\n")
    assert read_header(target).quantisation == "BF16"
    code, text = run(source, target, "q4_k_xl")
    assert code == 1
    assert text.startswith("Error: unsupported quantization type q4_k_xl - supported types are F32")
    assert run(source, target, "q8_0", "--vocab-text", source)[0] == 1
    assert read_header(target).quantisation == "BF16"
