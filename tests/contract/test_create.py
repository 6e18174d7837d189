"""Making models over HTTP: blobs and /api/create (CONTRACT 1.15 and 7.4)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import ollama
import pytest
from daemons import Daemon, Json, start_daemon
from ollama_folder import files
from outrider.daemon.cli.entry import exit_code
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from tiny_lora import write_lora
from tiny_split import split_gguf

pytestmark = pytest.mark.contract

SUCCESS = (200, {"status": "success"})
ABSENT = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user has files: a model, its drafter, and another model."""
    folder = tmp_path_factory.mktemp("gguf")
    gemma4 = write_gemma4(folder / "gemma4.gguf")
    write_gemma4_assistant(folder / "assistant.gguf", gemma4)
    write_llama(folder / "llama.gguf", embd=32)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def creating(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    env = {"OUTRIDER_KV_CACHE_TYPE": "f32"}
    with start_daemon(root, tmp_path_factory.mktemp("log"), env=env) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def weights(creating: Daemon, folder: Path) -> str:
    """The digest of the llama, which the daemon has."""
    return upload(creating, (folder / "llama.gguf").read_bytes())[0]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(daemon: Daemon, data: bytes) -> tuple[str, int]:
    digest = sha256(data)
    return digest, daemon.send(f"/api/blobs/{digest}", data)[0]


def create(daemon: Daemon, **body: object) -> tuple[int, Json]:
    fields = {key.removesuffix("_"): value for key, value in body.items()}
    return daemon.post("/api/create", {"model": "made", "stream": False, **fields})


def test_a_blob_is_there_once_it_was_uploaded(creating: Daemon, root: Path) -> None:
    data = bytes(3_000_000)
    path = f"/api/blobs/{sha256(data)}"
    assert creating.send(path, None, method="HEAD")[0] == 404
    assert creating.send(path, data)[0] == 201
    assert creating.send(path, None, method="HEAD")[0] == 200
    assert creating.send(path, b"not read")[0] == 200
    assert creating.send(path.replace(":", "-").upper().replace("/API/BLOBS/SHA", "/api/blobs/sha"),
                         None, method="HEAD")[0] == 200  # fmt: skip
    assert (root / "blobs" / sha256(data).replace(":", "-")).read_bytes() == data


def test_a_blob_must_match_its_digest(creating: Daemon, root: Path) -> None:
    before = files(root)
    refused = creating.send(f"/api/blobs/{ABSENT}", b"other")
    mismatch = f'digest mismatch, expected "{ABSENT}", got "{sha256(b"other")}"'
    assert refused == (400, {"error": mismatch})
    for digest in ("sha256:123", "md5:" + "0" * 64, ABSENT + "0", "..%2F" + ABSENT):
        assert creating.send(f"/api/blobs/{digest}", b"x") == (
            400, {"error": "invalid digest format"})  # fmt: skip
        assert creating.send(f"/api/blobs/{digest}", None, method="HEAD")[0] == 400
    assert files(root) == before


def test_nothing_is_kept_of_an_upload_that_breaks_off(creating: Daemon, root: Path) -> None:
    before = files(root)
    address = urlsplit(creating.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = (
            f"POST /api/blobs/{ABSENT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
        )
        connection.sendall(head.encode() + bytes(5000))
        wait_until(lambda: files(root) != before)
    wait_until(lambda: files(root) == before)


def wait_until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_statuses_come_in_order(creating: Daemon, weights: str) -> None:
    body = {"model": "made", "files": {"a.gguf": weights}, "system": "be kind"}
    statuses = [line["status"] for line in creating.lines("/api/create", body)]
    assert statuses[:3] == [
        "parsing GGUF",
        "validating GGUF model",
        f"using existing layer {weights}",
    ]
    assert all(status.startswith("creating new layer sha256:") for status in statuses[3:5])
    assert statuses[5:] == ["writing manifest", "success"]
    shown = creating.post("/api/show", {"model": "made"})[1]
    assert shown["system"] == "be kind"
    assert shown["details"]["family"] == "llama"


def test_a_model_on_a_model(creating: Daemon, weights: str) -> None:
    first = {"stop": ["<a>"], "temperature": 0}
    parts = {"parameters": first, "license": "mine", "requires": "0.14.0", "renderer": "r"}
    assert create(creating, name="one", model="", files={"a": weights}, **parts) == SUCCESS
    messages = [{"role": "user", "content": "hi"}]
    second = {"license": ["yours"], "parameters": {"seed": 1}, "messages": messages}
    assert create(creating, model="two", from_="one", **second) == SUCCESS
    shown = creating.post("/api/show", {"model": "two"})[1]
    assert shown["license"] == "mine\nyours"
    assert shown["messages"] == messages
    assert shown["requires"] == "0.14.0"
    assert shown["details"]["parent_model"] == "one:latest"
    assert {line.split()[0] for line in shown["parameters"].splitlines()} == {
        *("stop", "temperature", "seed")
    }
    assert "RENDERER r" in shown["modelfile"]


def test_a_created_model_answers(creating: Daemon, weights: str) -> None:
    assert create(creating, files={"a": weights}, parameters={"num_predict": 3}) == SUCCESS
    body = {"model": "made", "prompt": "hello", "stream": False}
    assert creating.post("/api/generate", body)[1]["eval_count"] == 3


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "", "from": "x"}, "invalid model name"),
        ({"model": "a//b", "from": "x"}, "invalid model name"),
        ({"from": "../x"}, "invalid model name"),
        ({}, "neither 'from' or 'files' was specified"),
        ({"draft_files": {"d": ABSENT}}, "neither 'from' or 'files' was specified"),
        ({"files": {"/a": ABSENT}}, "file path must be relative"),
        ({"files": {"a/../../b": ABSENT}}, "file path must be relative"),
        ({"files": {"a": "sha256:1"}}, "invalid digest format"),
        ({"from": "x", "adapters": {"a": "b"}}, "invalid digest format"),
        ({"files": {"a": ABSENT}}, f"the blob {ABSENT} of a is not here; upload it first"),
        ({"from": "x", "parameters": {"top_q": 1}}, "unknown parameter 'top_q'"),
        ({"from": "x", "parameters": {"top_k": "1"}}, 'invalid int value ["1"]'),
        ({"from": "x", "template": "{{ .Prompt"}, "template error: template:1:1: unclosed action"),
        ({"from": "x", "draft": "a//b"}, "invalid model name"),
        ({"from": "x", "info": {"base_name": 1}}, 'info field "base_name" must be a string'),
        (
            {"from": "x", "info": {"context_length": -1}},
            'info field "context_length" must be a non-negative integer',
        ),
    ],
)
def test_bad_requests(creating: Daemon, body: Json, error: str) -> None:
    for stream in (False, True):
        assert create(creating, **body, stream=stream) == (400, {"error": error})


def test_what_is_not_supported_is_refused_with_advice(creating: Daemon) -> None:
    status, answer = create(creating, from_="made", remote_host="https://elsewhere")
    assert status == 400
    assert "not supported: " in answer["error"]


def test_files_that_are_no_gguf(creating: Daemon, folder: Path, root: Path) -> None:
    whole = (folder / "llama.gguf").read_bytes()
    broken, _ = upload(creating, whole[: len(whole) // 2])
    tensors, _ = upload(creating, b"\x10\0\0\0\0\0\0\0{}")
    before = files(root)
    for field in ("files", "draft_files"):
        status, answer = create(creating, model="bad", **{"from": "made", field: {"m": broken}})
        assert status == 400
        assert answer["error"].startswith("m is no usable GGUF file: its tensors need")
        body = {"from": "made", field: {"model.tensors": tensors}}
        status, answer = create(creating, model="bad", **body)
        assert status == 400
        assert answer["error"].startswith("supplied file was not in GGUF format: convert model.t")
    assert files(root) == before


def test_a_base_that_nobody_has(creating: Daemon) -> None:
    nobody = "127.0.0.1:9/library/nobody"  # the port of a service that no longer exists
    first, last = creating.lines("/api/create", {"model": "x", "from": nobody})
    assert first == {"status": "pulling manifest"}
    assert last["error"].startswith("pull model manifest: 127.0.0.1:9 cannot be reached: ")
    assert create(creating, from_=nobody) == (500, last)


def test_a_replaced_model_leaves_nothing_behind(creating: Daemon, weights: str, root: Path) -> None:
    assert create(creating, model="again", files={"a": weights}, system="first") == SUCCESS
    before = files(root)
    assert create(creating, model="again", files={"a": weights}, system="second") == SUCCESS
    assert len(files(root)) == len(before)
    assert files(root) != before


def test_the_command_makes_a_pair_that_decodes_speculatively(
    creating: Daemon, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modelfile = folder / "Modelfile"
    modelfile.write_text(
        "FROM ./gemma4.gguf\n"
        "DRAFT ./assistant.gguf\n"
        "PARAMETER draft_num_predict 2\n"
        "PARAMETER temperature 0\n"
        'SYSTEM """You are kind,\nand brief."""\n'
    )
    words = ("--host", creating.url, "create", "pair", "-f", str(modelfile))
    assert exit_code(words) == 0, capsys.readouterr().err
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        f"{verb} {name}.gguf"
        for name in ("gemma4", "assistant")
        for verb in ("hashing", "uploading")
    ]
    assert lines[-1] == "success"

    # Whether drafts pay for such a small model is not tested here.
    speculation = chat(creating, draft_fixed=8)["speculation"]
    assert speculation["drafted"] > 0
    assert speculation["mean_length"] <= 2, "bounded by the model's own parameter"
    (row,) = [r for r in creating.get("/api/ps")[1]["models"] if r["name"] == "pair:latest"]
    assert "assistant" in row["speculation"]["drafters"]
    assert "refusal" not in row["speculation"]
    assert "speculation" not in chat(creating, draft_num_predict=0)
    shown = creating.post("/api/show", {"model": "pair"})[1]["modelfile"]
    assert "\nDRAFT " in shown
    assert 'SYSTEM "You are kind,\nand brief."' in shown


def chat(daemon: Daemon, **options: object) -> Json:
    ask = [{"role": "user", "content": "the quick brown fox jumps over the lazy dog, and then "}]
    body = {"model": "pair", "messages": ask, "stream": False}
    status, answer = daemon.post("/api/chat", {**body, "options": {"num_predict": 40, **options}})
    assert status == 200, answer
    return answer


def test_the_official_client_creates(creating: Daemon, folder: Path) -> None:
    client = ollama.Client(host=creating.url)
    try:
        digest = client.create_blob(folder / "llama.gguf")
        steps = client.create(
            "official", files={"llama.gguf": digest}, system="be kind", stream=True,
            parameters={"num_predict": 2, "stop": ["x"]}, license=["a", "b"],
        )  # fmt: skip
        assert [step.status for step in steps][-1] == "success"
        made = client.create("on-top", from_="official", template="{{ .Prompt }}")
        assert made.status == "success"
        assert client.show("on-top").license == "a\nb"
        with pytest.raises(ollama.ResponseError, match="unknown parameter 'top_q'"):
            client.create("on-top", from_="official", parameters={"top_q": 1})
    finally:
        client._client.close()


def test_safetensors_are_converted_by_the_converter_in_the_path(tmp_path: Path) -> None:
    """A script stands in for llama.cpp's converter, which needs torch."""
    converted = write_llama(tmp_path / "converted.gguf", embd=32, seed=6)
    script = tmp_path / "bin" / "convert_hf_to_gguf.py"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        'ls "$1" | tr "\\n" " "; grep -q broken "$1/config.json" && echo no such model && exit 1\n'
        f'cp {converted} "$3"\n'
    )
    script.chmod(0o755)
    env = {"PATH": f"{script.parent}:{os.environ['PATH']}"}
    with start_daemon(tmp_path / "models", tmp_path, env=env) as daemon:
        names = {"model.safetensors": b"x", "config.json": b"{}", "code.py": b"y"}
        files_ = {name: upload(daemon, data)[0] for name, data in names.items()}
        broken = {**files_, "config.json": upload(daemon, b"broken")[0]}
        before = files(tmp_path / "models")
        error = "the model cannot be converted: config.json model.safetensors no such model"
        assert create(daemon, model="bad", files=broken) == (400, {"error": error})
        assert files(tmp_path / "models") == before

        body = {"model": "made", "files": files_, "parameters": {"num_predict": 3}}
        lines = [line["status"] for line in daemon.lines("/api/create", body)]
        assert (lines[:2], lines[-1]) == (["converting model", "validating GGUF model"], "success")
        weights = sha256(converted.read_bytes()).replace(":", "-")
        assert (tmp_path / "models" / "blobs" / weights).is_file()
        body = {"model": "made", "prompt": "hello", "stream": False}
        assert daemon.post("/api/generate", body)[1]["eval_count"] == 3


def test_safetensors_without_a_converter(creating: Daemon) -> None:
    tensors, _ = upload(creating, b"\x10\0\0\0\0\0\0\0{}")
    status, answer = create(creating, model="bad", files={"model.safetensors": tensors})
    assert status == 400
    assert "converting safetensors needs llama.cpp's convert_hf_to_gguf.py" in answer["error"]


def test_the_command_makes_a_model_of_parts(
    creating: Daemon, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_llama(tmp_path / "whole.gguf", embd=32)
    parts = split_gguf(whole, 3, into=tmp_path)
    texts = []
    for name, file in (("whole", whole), ("parts", parts[1])):
        modelfile = tmp_path / name
        modelfile.write_text(f"FROM ./{file.name}\nPARAMETER num_predict 9\n")
        words = ("--host", creating.url, "create", name, "-f", str(modelfile))
        assert exit_code(words) == 0, capsys.readouterr().err
        body = {"model": name, "prompt": "hello", "stream": False, "options": {"temperature": 0}}
        texts.append(creating.post("/api/generate", body)[1]["response"])
    assert texts[0] == texts[1] != ""


async def test_many_at_once_leave_one_whole_model(creating: Daemon, weights: str) -> None:
    def one(number: int) -> tuple[int, Json]:
        return create(creating, model="race", files={"a": weights}, system=f"number {number}")

    answers = await asyncio.gather(*(asyncio.to_thread(one, i) for i in range(8)))
    assert answers == [SUCCESS] * 8
    shown = creating.post("/api/show", {"model": "race"})[1]
    assert shown["system"].startswith("number ")


def test_models_with_and_without_an_adapter_are_served_at_once(
    creating: Daemon, folder: Path
) -> None:
    base = write_llama(folder / "own.gguf", embd=32, seed=5)
    lora = write_lora(folder / "lora.gguf", base)
    files_ = {"a": upload(creating, base.read_bytes())[0]}
    adapters = {"lora.gguf": upload(creating, lora.read_bytes())[0]}
    assert create(creating, model="bare", files=files_) == SUCCESS
    assert create(creating, model="adapted", from_="bare", adapters=adapters) == SUCCESS
    texts = {}
    for _ in range(2):
        for model in ("bare", "adapted"):
            body = {"model": model, "prompt": "hello", "stream": False}
            options = {"temperature": 0, "num_predict": 20}
            status, answer = creating.post("/api/generate", {**body, "options": options})
            assert status == 200, answer
            assert texts.setdefault(model, answer["response"]) == answer["response"]
    assert texts["bare"] != texts["adapted"]
    loaded = {row["name"] for row in creating.get("/api/ps")[1]["models"]}
    assert loaded >= {"bare:latest", "adapted:latest"}
    shown = creating.post("/api/show", {"model": "adapted"})[1]
    assert "\nADAPTER /" in shown["modelfile"]
    assert "warnings" not in shown


def test_what_is_not_used_is_logged_once(creating: Daemon, weights: str) -> None:
    assert create(creating, model="odd", files={"a": weights}, renderer="odd-one") == SUCCESS
    for _ in range(2):
        assert creating.post("/api/generate", {"model": "odd", "keep_alive": 60})[0] == 200
        assert creating.post("/api/generate", {"model": "odd", "keep_alive": 0})[0] == 200
    assert creating.log.read_text().count("RENDERER odd-one") == 1
