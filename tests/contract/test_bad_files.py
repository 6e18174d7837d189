"""Bad weights and absurd bodies: one clear error each, and the daemon goes on serving."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import Daemon
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.contract

ASK = {"prompt": "x", "stream": False, "options": {"num_predict": 1}}


@pytest.fixture
def still_serves(daemon: Daemon) -> None:
    assert daemon.post("/api/generate", {"model": "tiny", **ASK})[0] == 200


def cut_short(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def replace_by_text(path: Path) -> None:
    path.write_text("This is not a model at all.\n" * 100)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [(cut_short, "truncated"), (replace_by_text, "not a GGUF"), (remove, "missing")],
)
@pytest.mark.usefixtures("still_serves")
def test_a_damaged_file_gets_one_clear_error(
    daemon: Daemon, store_root: Path, tmp_path: Path, damage: object, words: str
) -> None:
    name = f"damaged-{words.split()[-1].lower()}"
    gguf = write_llama(tmp_path / "x.gguf", seed=len(words) + 90)
    blob = import_gguf(store_root, name, gguf)
    damage(blob)  # type: ignore[operator]
    for path in ("/api/generate", "/api/show"):
        status, answer = daemon.post(path, {"model": name, **ASK})
        assert status == 500
        assert set(answer) == {"error"}
        assert blob.name in answer["error"] or name in answer["error"]
        assert len(answer["error"].splitlines()) == 1
        print(path, answer["error"])
    assert daemon.get("/api/tags")[0] == 200


@pytest.mark.usefixtures("still_serves")
def test_a_sound_header_over_weights_that_llama_cpp_refuses(
    daemon: Daemon, store_root: Path, tmp_path: Path
) -> None:
    gguf = write_llama(tmp_path / "odd.gguf", extra={"general.architecture": "martian"})
    import_gguf(store_root, "odd", gguf)
    status, answer = daemon.post("/api/generate", {"model": "odd", **ASK})
    assert status == 500
    assert "martian" in answer["error"]


@pytest.mark.usefixtures("still_serves")
def test_a_body_of_100_mb_is_refused(daemon: Daemon) -> None:
    body = b'{"model":"tiny","prompt":"' + b"x" * 100_000_000 + b'"}'
    status, answer = daemon.post("/api/generate", body)
    assert status == 413
    assert answer == {"error": "the request body is too large: at most 64 MiB are read"}


@pytest.mark.usefixtures("still_serves")
def test_a_prompt_of_4_mb_is_cut_to_the_context(daemon: Daemon) -> None:
    body = {"model": "tiny", **ASK, "raw": True, "prompt": "ab" * 2_000_000}
    status, answer = daemon.post("/api/generate", body)
    assert status == 200
    assert answer["prompt_eval_count"] < 2048
