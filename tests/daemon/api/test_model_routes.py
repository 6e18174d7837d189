"""The routes about models, vectors and files, without weights (CONTRACT 0 and 1.10 to 1.16)."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import sys
from collections.abc import AsyncGenerator
from datetime import datetime

import numpy as np
import pytest
from aiohttp import web
from fake_runner import DONE
from front import Front
from outrider.daemon.api.ollama import library
from outrider.daemon.cli import entry
from outrider.daemon.errors import BadRequest, RunnerDied
from outrider.daemon.protocol import Delta, Ready, Stats
from outrider.models.errors import PullFailed
from outrider.models.name import Name
from outrider.models.sources import pull as pulling
from outrider.models.sources.progress import PullProgress
from registry_server import RegistryServer

pytestmark = pytest.mark.unit

INTERNAL = "internal error; the daemon's log has the details"
ABSENT_MODEL = "pull model manifest: file does not exist"
ABSENT = "sha256:" + "0" * 64
TESTED = {
    *("GET /", "HEAD /", "GET /metrics", "HEAD /metrics", "GET /api/version", "HEAD /api/version"),
    *("GET /api/tags", "HEAD /api/tags", "GET /api/ps", "HEAD /api/ps", "POST /api/show"),
    *(
        "POST /api/copy",
        "DELETE /api/delete",
        "POST /api/pull",
        "POST /api/push",
        "POST /api/create",
    ),
    *("HEAD /api/blobs/{digest}", "POST /api/blobs/{digest}", "POST /api/embed"),
    *("POST /api/embeddings", "POST /api/generate", "POST /api/chat"),
    *("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings"),
    *("GET /v1/models", "HEAD /v1/models", "GET /v1/models/{id}", "HEAD /v1/models/{id}"),
    *("POST /v1/responses", "POST /v1/messages", "POST /v1/messages/count_tokens"),
    *("GET /api/status", "HEAD /api/status", "POST /api/me", "POST /api/signout"),
    *("DELETE /api/user/keys/{key}", "POST /api/experimental/web_search"),
    *("POST /api/experimental/web_fetch", "GET /api/experimental/model-recommendations"),
    *("HEAD /api/experimental/model-recommendations", "POST /v1/systemone"),
    *("GET /openapi.json", "HEAD /openapi.json", "POST /api/plan"),
    *("GET /ui", "HEAD /ui", "GET /ui/{name}", "HEAD /ui/{name}", "GET /api/snapshot"),
    *("HEAD /api/snapshot", "GET /api/live", "HEAD /api/live", "POST /api/doctor"),
}


async def test_every_route_is_tested_here_or_beside(front: Front) -> None:
    app = front.client.app
    assert isinstance(app, web.Application)
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource
    }
    assert routes == TESTED


async def test_root_and_version(front: Front) -> None:
    assert await front.send("GET", "/") == (200, "Ollama is running")
    assert await front.send("HEAD", "/") == (200, "")
    assert await front.get("/api/version") == (200, {"version": "0.33.0"})
    for path in ("/metrics", "/api/version", "/api/tags", "/api/ps"):
        assert await front.send("HEAD", path) == (200, "")


async def test_every_answer_names_the_version(front: Front) -> None:
    for path in ("/", "/api/nothing"):
        async with front.client.get(path) as answer:
            assert answer.headers["Outrider-Version"]


async def test_what_is_no_route(front: Front) -> None:
    assert await front.send("GET", "/api/nothing") == (404, "404 page not found")
    async with front.client.get("/api/chat") as answer:
        assert (answer.status, await answer.text()) == (405, "405 method not allowed")
        assert answer.headers["Allow"] == "POST"
    for method, status in (("GET", 301), ("POST", 307)):
        async with front.client.request(method, "/api/tags/", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (status, "/api/tags")


async def test_strangers_are_kept_out(front: Front) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        async with front.client.get("/api/tags", headers=headers) as answer:
            assert (answer.status, await answer.text()) == (403, "")


@pytest.mark.parametrize(("body", "error"), [(b"", "missing request body"), (b"{", "invalid JSON")])
async def test_what_is_no_request(front: Front, body: bytes, error: str) -> None:
    for path in ("generate", "chat", "embed", "embeddings", "show", "copy", "pull", "create"):
        status, answer = await front.post(f"/api/{path}", body)
        assert status == 400
        assert answer["error"].startswith(error)


async def test_tags(front: Front) -> None:
    rows = {row["name"]: row for row in (await front.get("/api/tags"))[1]["models"]}
    assert {"chat:latest", "thinker:latest", "vectors:latest", "full:latest"} <= rows.keys()
    assert rows["thinker:latest"]["capabilities"] == ["completion", "thinking"]
    assert rows["vectors:latest"]["capabilities"] == ["embedding"]
    assert rows["chat:latest"]["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "0",
        "quantization_level": "F32",
        "context_length": 8192,
        "embedding_length": 64,
    }


async def test_ps(front: Front) -> None:
    assert await front.get("/api/ps") == (200, {"models": []})
    await front.post("/api/generate", {"model": "full", "keep_alive": 60})
    (row,) = (await front.get("/api/ps"))[1]["models"]
    assert (row["name"], row["model"]) == ("full:latest", "full:latest")
    assert (row["size"], row["size_vram"], row["context_length"]) == (1000, 400, 8192)
    assert row["details"]["family"] == "llama"
    left = datetime.fromisoformat(row["expires_at"]) - datetime.now().astimezone()
    assert 50 < left.total_seconds() < 70
    assert "speculation" not in row


async def test_ps_shows_forever_as_a_date_in_the_far_future(front: Front) -> None:
    await front.post("/api/generate", {"model": "chat", "keep_alive": -1})
    (row,) = (await front.get("/api/ps"))[1]["models"]
    assert datetime.fromisoformat(row["expires_at"]).year > datetime.now().year + 90


async def test_ps_reports_speculation(front: Front) -> None:
    front.runners.ready = Ready(1, 0, drafters=("ngram",))
    front.runners.stats = Stats(
        drafted_tokens=12, accepted_tokens=9, drafts=4, speculated_ns=50, plain_ns=80
    )
    await front.post("/api/generate", {"model": "chat"})
    assert (await front.get("/api/ps"))[1]["models"][0]["speculation"] == {
        "drafters": ["ngram"],
        "drafted": 12,
        "accepted": 9,
        "mean_length": 3.0,
        "estimated_speedup": 1.6,
    }


async def test_ps_gives_the_reason_of_a_refused_drafter(front: Front) -> None:
    front.runners.ready = Ready(1, 0, refusal="the vocabularies differ")
    await front.post("/api/generate", {"model": "chat"})
    assert (await front.get("/api/ps"))[1]["models"][0]["speculation"] == {
        "drafters": [],
        "refusal": "the vocabularies differ",
        "drafted": 0,
        "accepted": 0,
        "mean_length": 0.0,
        "estimated_speedup": 1.0,
    }


async def test_metrics(front: Front) -> None:
    front.runners.stats = Stats(steps=3, slots_busy=1)
    await front.post("/api/generate", {"model": "chat"})
    status, text = await front.send("GET", "/metrics")
    assert status == 200
    assert 'outrider_steps_total{model="chat:latest"} 3.0' in text
    assert 'outrider_slots_busy{model="chat:latest"} 1.0' in text


async def test_show(front: Front) -> None:
    status, shown = await front.post("/api/show", {"name": "full", "system": "mine"})
    assert status == 200
    assert shown["system"] == "mine"
    assert shown["parameters"].split() == ["num_predict", "7"]
    assert shown["capabilities"] == ["completion"]
    assert shown["model_info"]["general.parameter_count"] == 0
    verbose = (await front.post("/api/show", {"model": "full", "verbose": True}))[1]
    assert verbose["system"] == "be kind"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "model is required"),
        ({"model": "nobody"}, 404, "model 'nobody:latest' not found"),
        ({"model": "a//b"}, 400, "invalid model name"),
        ({"model": "chat", "options": {"top_k": "x"}}, 500,
         'option "top_k" must be of type integer'),
    ],
)  # fmt: skip
async def test_show_refuses(front: Front, body: dict[str, object], status: int, error: str) -> None:
    assert await front.post("/api/show", body) == (status, {"error": error})


async def test_copy_and_delete(front: Front) -> None:
    copied = await front.send("POST", "/api/copy", {"source": "chat", "destination": "second"})
    assert copied == (200, "")
    assert front.store.find(Name.parse("second"))
    assert await front.send("DELETE", "/api/delete", {"model": "second"}) == (200, "")
    assert front.store.find(Name.parse("second")) is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "copy", {"destination": "x"}, 400, 'source "" is invalid'),
        ("POST", "copy", {"source": "chat", "destination": "../x"}, 400,
         'destination "../x" is invalid'),
        ("POST", "copy", {"source": "nobody", "destination": "x"}, 404,
         'model "nobody" not found'),
        ("DELETE", "delete", {}, 400, "model is required"),
        ("DELETE", "delete", {"name": "a//b"}, 400, 'name "a//b" is invalid'),
        ("DELETE", "delete", {"name": "nobody"}, 404, "model 'nobody' not found"),
    ],
)  # fmt: skip
async def test_copy_and_delete_refuse(
    front: Front, method: str, path: str, body: dict[str, object], status: int, error: str
) -> None:
    expected = (status, f'{{"error":{_quoted(error)}}}')
    assert await front.send(method, f"/api/{path}", body) == expected


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


async def fetched(*_: object) -> AsyncGenerator[PullProgress, None]:
    yield PullProgress("pulling manifest")
    yield PullProgress("pulling aa", "sha256:aa", 10, 5)
    yield PullProgress("success")


async def test_pull(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "pull", fetched)
    assert await front.lines("/api/pull", {"model": "m", "insecure": False}) == [
        {"status": "pulling manifest"},
        {"status": "pulling aa", "digest": "sha256:aa", "total": 10, "completed": 5},
        {"status": "success"},
    ]
    whole = await front.post("/api/pull", {"name": "m", "stream": False})
    assert whole == (200, {"status": "success"})


@pytest.mark.parametrize(
    ("error", "text"),
    [(PullFailed("no such model"), "no such model"), (KeyError("secret"), INTERNAL)],
)
async def test_a_pull_that_fails(
    front: Front, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    async def broken(*_: object) -> AsyncGenerator[PullProgress, None]:
        yield PullProgress("pulling manifest")
        raise error

    monkeypatch.setattr(pulling, "pull", broken)
    lines = await front.lines("/api/pull", {"model": "m"})
    assert lines == [{"status": "pulling manifest"}, {"error": text}]
    assert await front.post("/api/pull", {"model": "m", "stream": False}) == (500, {"error": text})


@pytest.mark.parametrize("route", ["pull", "push"])
async def test_a_transfer_of_no_name(front: Front, route: str) -> None:
    for stream in (True, False):
        bad = await front.post(f"/api/{route}", {"model": "a b", "stream": stream})
        assert bad == (400, {"error": "invalid model name"})
    empty = {"pull": "invalid model name", "push": "model is required"}
    assert await front.post(f"/api/{route}", {}) == (400, {"error": empty[route]})


async def test_plain_http_has_to_be_allowed(front: Front) -> None:
    async with RegistryServer().serve() as registry:
        body = {"model": f"http://{registry.host}/library/nobody"}
        first, last = await front.lines("/api/pull", body)
        assert first == {"status": "pulling manifest"}
        assert last["error"].startswith("pull model manifest: insecure protocol http; allow")
        assert registry.log == []
        lines = await front.lines("/api/pull", body | {"insecure": True})
        assert lines == [first, {"error": ABSENT_MODEL}]
        whole = await front.post("/api/pull", {**body, "insecure": True, "stream": False})
        assert whole == (500, {"error": ABSENT_MODEL})


async def test_push_and_pull(front: Front) -> None:
    async with RegistryServer().serve() as registry:
        name = f"{registry.host}/me/full:1b"
        await front.send("POST", "/api/copy", {"source": "full", "destination": name})
        pushed = await front.lines("/api/push", {"model": name, "insecure": True})
        statuses = [line["status"] for line in pushed]
        assert (statuses[0], statuses[-2:]) == (
            "retrieving manifest",
            ["pushing manifest", "success"],
        )
        sent = front.store.manifest_bytes(Name.parse(name))
        assert registry.manifests["me/full", "1b"] == sent
        body = {"model": name, "insecure": True, "stream": False}
        assert await front.post("/api/pull", body) == (200, {"status": "success"})


async def test_a_push_of_a_model_that_is_not_there(front: Front) -> None:
    lines = await front.lines("/api/push", {"model": "nobody"})
    assert lines[:2] == [
        {"status": "retrieving manifest"},
        {"status": "couldn't retrieve manifest"},
    ]
    assert "nobody" in lines[2]["error"]
    assert lines[2]["error"].endswith("no such file or directory")


@pytest.mark.parametrize("command", [("pull",), ("run", "hello")])
async def test_the_command_s_insecure_ends_with_one_line(
    front: Front,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    async with RegistryServer().serve() as registry:
        name = f"{registry.host}/library/nobody"
        words = ["--host", front.url, command[0], name, *command[1:], "--insecure"]
        assert await asyncio.to_thread(entry.exit_code, words) == 1
    assert capsys.readouterr() == ("", f"pulling manifest\nError: {ABSENT_MODEL}\n")


async def test_blobs_and_create(front: Front) -> None:
    data = front.store.resolve("chat").model_path
    assert data
    content = data.read_bytes() + b"\0" * 32  # other bytes than any model that is there
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = f"/api/blobs/{digest}"
    assert await front.send("HEAD", path) == (404, "")
    assert await front.send("POST", path, content) == (201, "")
    assert await front.send("POST", path, b"not read") == (200, "")
    assert await front.send("HEAD", path) == (200, "")
    body = {"model": "made", "files": {"a.gguf": digest}, "system": "be brief"}
    statuses = [line["status"] for line in await front.lines("/api/create", body)]
    assert statuses[0] == "parsing GGUF"
    assert statuses[-2:] == ["writing manifest", "success"]
    assert front.store.resolve("made").system == "be brief"
    again = {"model": "made", "from": "chat", "stream": False}
    assert await front.post("/api/create", again) == (200, {"status": "success"})


async def test_blobs_refuse(front: Front) -> None:
    for digest, error in (
        ("md5:1", "invalid digest format"),
        (ABSENT, f'digest mismatch, expected "{ABSENT}", got "sha256:'
                 f'{hashlib.sha256(b"x").hexdigest()}"'),
    ):  # fmt: skip
        assert await front.post(f"/api/blobs/{digest}", b"x") == (400, {"error": error})
    assert await front.send("HEAD", "/api/blobs/md5:1") == (400, "")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": ""}, "invalid model name"),
        ({"model": "m"}, "neither 'from' or 'files' was specified"),
        ({"model": "m", "files": {"/a": ABSENT}}, "file path must be relative"),
        ({"model": "m", "files": {"a": ABSENT}},
         f"the blob {ABSENT} of a is not here; upload it first"),
    ],
)  # fmt: skip
async def test_create_refuses(front: Front, body: dict[str, object], error: str) -> None:
    for stream in (True, False):
        answer = await front.post("/api/create", {**body, "stream": stream})
        assert answer == (400, {"error": error})


@pytest.mark.parametrize("field", ["quantize", "quantization", "draft_quantize"])
async def test_create_names_the_types_that_it_can_write(front: Front, field: str) -> None:
    """CONTRACT 7.4"""
    status, answer = await front.post("/api/create", {"model": "m", "from": "chat", field: "q9"})
    assert status == 500
    assert str(answer).startswith(
        "{'error': 'unsupported quantization type q9 - supported types are F32, F16, BF16, Q8_0, "
    )


async def test_embed(front: Front) -> None:
    front.runners.vectors = [[3.0, 4.0, 0.0, 12.0], [0.0, 0.0, 0.0, 0.0]]
    body = {"model": "vectors", "input": ["a", ""], "keep_alive": 60, "truncate": False}
    status, answer = await front.post("/api/embed", body)
    assert status == 200
    vectors = np.array([[3 / 13, 4 / 13, 0, 12 / 13], [0, 0, 0, 0]])
    assert np.allclose(answer["embeddings"], vectors)
    assert (answer["model"], answer["prompt_eval_count"]) == ("vectors", 6)
    assert answer["total_duration"] >= answer["load_duration"] > 0
    (embed,) = front.runners.embeds
    assert (embed.texts, embed.num_ctx, embed.truncate) == (("a", ""), 0, False)
    assert front.runners.loads[0].embedding
    short = (await front.post("/api/embed", {**body, "input": "a", "dimensions": 2}))[1]
    assert np.allclose(short["embeddings"], [[0.6, 0.8]])


async def test_embeddings_gives_the_vector_as_it_is(front: Front) -> None:
    front.runners.vectors = [[3.0, 4.0, 0.0, 12.0]]
    body = {"model": "vectors", "prompt": "a", "options": {"num_ctx": 9}}
    assert await front.post("/api/embeddings", body) == (200, {"embedding": [3, 4, 0, 12]})
    assert (front.runners.embeds[0].num_ctx, front.runners.embeds[0].truncate) == (9, False)


async def test_without_a_text_the_model_is_loaded_for_vectors(front: Front) -> None:
    body = {"model": "vectors", "keep_alive": 60}
    empty = {"model": "vectors", "embeddings": []}
    assert await front.post("/api/embed", body) == (200, empty)
    assert await front.post("/api/embeddings", body) == (200, {"embedding": []})
    assert [load.embedding for load in front.runners.loads] == [True]
    assert front.pool.loaded_models[0].keep_alive_s == 60
    assert front.runners.embeds == []


@pytest.mark.parametrize(
    ("route", "body", "status", "error"),
    [
        ("embed", {}, 404, "model '' not found"),
        ("embeddings", {}, 400, "model is required"),
        ("embed", {"model": "no"}, 404, 'model "no" not found, try pulling it first'),
        ("embeddings", {"model": "no"}, 404, 'model "no" not found, try pulling it first'),
        ("embed", {"model": "vectors", "input": [1]}, 400, "invalid input type"),
    ],
)
async def test_a_bad_request_for_vectors(
    front: Front, route: str, body: dict[str, object], status: int, error: str
) -> None:
    assert await front.post(f"/api/{route}", body) == (status, {"error": error})


@pytest.mark.parametrize(
    ("error", "embed", "embeddings", "text"),
    [
        (BadRequest("too long"), 400, 500, "too long"),
        (RunnerDied("gone"), 500, 500, "gone"),
        (ZeroDivisionError("secret"), 500, 500, INTERNAL),
    ],
)
async def test_vectors_that_fail(
    front: Front, error: Exception, embed: int, embeddings: int, text: str
) -> None:
    front.runners.embed_error = error
    asked = {"model": "vectors", "input": "a", "prompt": "a"}
    assert await front.post("/api/embed", asked) == (embed, {"error": text})
    assert await front.post("/api/embeddings", asked) == (embeddings, {"error": text})


@pytest.mark.parametrize("route", ["embed", "embeddings"])
async def test_an_option_of_a_request_for_vectors_that_is_too_large(
    front: Front, route: str
) -> None:
    asked = {"model": "vectors", "input": "a", "prompt": "a", "options": {"num_ctx": 1 << 70}}
    error = {"error": 'option "num_ctx" must be an integer of 64 bits'}
    assert await front.post(f"/api/{route}", asked) == (400, error)


async def test_vectors_that_json_cannot_express(front: Front) -> None:
    front.runners.vectors = [[float("nan"), 0.0, 0.0, 0.0]]
    error = {"error": "embedding contains NaN or Inf values"}
    asked = {"model": "vectors", "input": "a", "prompt": "a"}
    assert await front.post("/api/embed", asked) == (400, error)
    assert await front.post("/api/embeddings", asked) == (400, error)


async def test_text_and_vectors_of_one_model_are_unloaded_together(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=DONE)])
    await front.lines("/api/generate", {"model": "chat", "prompt": "x"})
    await front.post("/api/embed", {"model": "chat"})
    assert len(front.pool.loaded_models) == 2
    await front.post("/api/generate", {"model": "chat", "keep_alive": 0})
    await asyncio.sleep(0)
    assert front.pool.loaded_models == []


def test_values_that_json_lacks_are_null() -> None:
    infinite = (1.5, math.inf, [math.nan, 2.0], "x", True)
    assert [library._json_value(value) for value in infinite] == [1.5, None, [None, 2.0], "x", True]
