"""CONTRACT 1, fact by fact: the native routes. Generated text is tested in test_native.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from fake_runner import DONE
from front import LLAMA, Front, start_front
from outrider.daemon.api.state import APP_STATE
from outrider.daemon.protocol import Delta, Done
from outrider.models.name import Name
from outrider.models.store import Store
from tiny import CHATML, named, write_gguf
from weights import import_gguf

pytestmark = pytest.mark.unit

USER = [{"role": "user", "content": "x"}]
CLOUD = "ollama cloud is disabled: remote model is unavailable"
DETAILS = "ollama cloud is disabled: remote model details are unavailable"
INFERENCE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("generate", {"prompt": "x"}),
    ("chat", {"messages": USER}),
    ("embed", {"input": "x"}),
    ("embeddings", {"prompt": "x"}),
)
EACH_ROUTE = pytest.mark.parametrize(("route", "body"), INFERENCE)


async def ask(front: Front, route: str, body: dict[str, Any], model: str) -> tuple[int, Any]:
    """The answer of an inference route, as one object."""
    front.runners.scripts.append([Delta(1, text="Hi", done=DONE)])
    front.runners.vectors = [[1.0, 0.0, 0.0, 0.0]]
    return await front.post(f"/api/{route}", {"model": model, "stream": False, **body})


def add_stub(front: Front, name: str, host: str) -> None:
    """A manifest that names a model on another host, as a pull of a cloud's model leaves it."""
    store: Store = front.store
    folder = store.root / "manifests/registry.ollama.ai/library" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps({"remote_host": host, "remote_model": name}).encode()
    digest = _put(store.root / "blobs", config)
    layer = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest}
    manifest = {"schemaVersion": 2, "config": {**layer, "size": len(config)}, "layers": []}
    (folder / "latest").write_text(json.dumps(manifest))


def _put(blobs: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / f"sha256-{digest}").write_bytes(data)
    return f"sha256:{digest}"


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/api/status", 200, {"cloud": {"disabled": True, "source": "env"}}),
        ("POST", "/api/me", 503, {"error": "account unavailable"}),
        ("POST", "/api/signout", 401, {"error": "you are not currently signed in"}),
        ("DELETE", "/api/user/keys/a2V5", 401, {"error": "you are not currently signed in"}),
        ("POST", "/api/experimental/web_search", 403,
         {"error": "ollama cloud is disabled: web search is unavailable"}),
        ("POST", "/api/experimental/web_fetch", 403,
         {"error": "ollama cloud is disabled: web fetch is unavailable"}),
        ("GET", "/api/experimental/model-recommendations", 200, {"recommendations": []}),
    ],
)  # fmt: skip
async def test_1_19_a_daemon_without_a_cloud(
    front: Front, method: str, path: str, status: int, body: object
) -> None:
    got, text = await front.send(method, path, b'{"query":"x","url":"y"}')
    assert (got, json.loads(text)) == (status, body)


async def test_1_0_the_routes_with_head(front: Front) -> None:
    for path in ("/", "/api/version", "/api/tags"):
        assert await front.send("HEAD", path) == (200, "")


async def test_1_0_every_route_of_the_table_is_there(front: Front) -> None:
    app = front.client.app
    assert isinstance(app, web.Application)
    routes = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource}
    posts = "show generate chat embed embeddings create copy pull me signout"
    assert {("POST", f"/api/{name}") for name in posts.split()} <= routes
    v1 = "chat/completions completions embeddings responses messages"
    assert {("POST", f"/v1/{name}") for name in v1.split()} <= routes


@EACH_ROUTE
async def test_1_1_blanks_around_a_name_are_trimmed(
    front: Front, route: str, body: dict[str, Any]
) -> None:
    assert (await ask(front, route, body, " chat\t"))[0] == 200


@EACH_ROUTE
@pytest.mark.parametrize("model", ["chat:cloud", "gpt-oss:120b-cloud", "a/b:cloud"])
async def test_1_1_models_of_a_cloud(
    front: Front, route: str, body: dict[str, Any], model: str
) -> None:
    assert await ask(front, route, body, model) == (403, {"error": CLOUD})


@EACH_ROUTE
async def test_1_1_local_is_no_tag(front: Front, route: str, body: dict[str, Any]) -> None:
    status, answer = await ask(front, route, body, "chat:local")
    assert status == 200
    assert answer.get("model", "chat:local") == "chat:local", "the answer has the client's words"


async def test_1_1_a_model_may_still_be_named_local(front: Front) -> None:
    front.store.copy(Name.parse("chat"), Name.parse("only:local"))
    assert (await ask(front, "generate", {"prompt": "x"}, "only:local"))[0] == 200


@EACH_ROUTE
@pytest.mark.parametrize("model", ["m:cloud:local", "m:local:cloud", "m:7b-cloud:local"])
async def test_1_1_both_suffixes(
    front: Front, route: str, body: dict[str, Any], model: str
) -> None:
    error = f'use either :local or :cloud, not both: "{model}"'
    assert await ask(front, route, body, model) == (400, {"error": error})


async def test_1_1_a_model_whose_name_has_cloud_elsewhere(front: Front) -> None:
    for model in ("nobody-cloud", "my-cloud/nobody"):
        status, answer = await ask(front, "chat", {"messages": USER}, model)
        assert (status, answer) == (404, {"error": f"model '{model}' not found"})


async def test_1_1_a_stub_of_a_cloud(front: Front) -> None:
    add_stub(front, "stub", "https://ollama.com:443")
    generate = {"prompt": "x"}
    assert await ask(front, "generate", generate, "stub") == (403, {"error": CLOUD})
    assert await front.post("/api/show", {"model": "stub"}) == (403, {"error": DETAILS})
    missing = (404, {"error": "model 'stub:local' not found"})
    assert await ask(front, "generate", generate, "stub:local") == missing
    (row,) = [m for m in (await front.get("/api/tags"))[1]["models"] if m["name"] == "stub:latest"]
    assert (row["remote_host"], row["remote_model"]) == ("https://ollama.com:443", "stub")
    assert await front.send("DELETE", "/api/delete", {"model": "stub"}) == (200, "")


async def test_1_1_a_stub_of_another_host(front: Front) -> None:
    add_stub(front, "foreign", "https://example.com")
    refused = (400, {"error": "this server cannot run this remote model"})
    assert await ask(front, "chat", {"messages": USER}, "foreign") == refused
    assert await front.send("DELETE", "/api/delete", {"model": "foreign"}) == (200, "")


@pytest.mark.parametrize("model", ["CHAT", "Chat:LATEST", "library/chat"])
async def test_1_1_names_match_in_any_case_and_answers_repeat_the_clients(
    front: Front, model: str
) -> None:
    status, answer = await ask(front, "generate", {"prompt": "x"}, model)
    assert (status, answer["model"]) == (200, model)


@pytest.mark.parametrize(
    ("route", "empty", "unknown"),
    [
        ("generate", (404, "model '' not found"), (404, "model 'X' not found")),
        ("chat", (400, "model is required"), (404, "model 'X' not found")),
        ("embed", (404, "model '' not found"),
         (404, 'model "X" not found, try pulling it first')),
        ("embeddings", (400, "model is required"),
         (404, 'model "X" not found, try pulling it first')),
        ("show", (400, "model is required"), (404, "model 'X:latest' not found")),
    ],
)  # fmt: skip
async def test_1_1_missing_models_by_route(
    front: Front, route: str, empty: tuple[int, str], unknown: tuple[int, str]
) -> None:
    assert await front.post(f"/api/{route}", {}) == (empty[0], {"error": empty[1]})
    assert await front.post(f"/api/{route}", {"model": "X"}) == (unknown[0], {"error": unknown[1]})
    bad = await front.post(f"/api/{route}", {"model": "a//b"})
    assert bad == (400, {"error": "invalid model name"})


@pytest.mark.parametrize("top", [-1, 21])
async def test_1_2_top_logprobs_are_checked_before_the_name(front: Front, top: int) -> None:
    error = {"error": "top_logprobs must be between 0 and 20"}
    for route in ("generate", "chat"):
        assert await front.post(f"/api/{route}", {"top_logprobs": top}) == (400, error)


async def test_1_2_unload_comes_before_every_other_check(front: Front) -> None:
    body = {"model": "vectors", "keep_alive": 0, "think": True, "raw": True, "system": "x"}
    status, answer = await front.post("/api/generate", body)
    assert status == 200
    assert answer.keys() == {"model", "created_at", "response", "done", "done_reason"}
    assert (answer["response"], answer["done"], answer["done_reason"]) == ("", True, "unload")


async def test_1_2_load_has_no_metrics(front: Front) -> None:
    for body in ({}, {"prompt": ""}, {"prompt": None}):
        status, answer = await front.post("/api/generate", {"model": "chat", **body})
        assert (status, answer["response"]) == (200, "")
        assert (answer["done"], answer["done_reason"]) == (True, "load")
        assert "total_duration" not in answer


@pytest.mark.parametrize("more", [{"system": "x"}, {"template": "x"}, {"context": [1]}])
async def test_1_2_raw_excludes_what_it_ignores(front: Front, more: dict[str, object]) -> None:
    error = {"error": "raw mode does not support template, system, or context"}
    body = {"model": "chat", "prompt": "x", "raw": True, **more}
    assert await front.post("/api/generate", body) == (400, error)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "chat", "think": True}, '"chat" does not support thinking'),
        ({"model": "vectors"}, '"vectors" does not support generate'),
        ({"model": "chat", "suffix": "y"},
         "registry.ollama.ai/library/chat:latest does not support insert"),
    ],
)  # fmt: skip
async def test_1_2_capabilities(front: Front, body: dict[str, object], error: str) -> None:
    answer = await front.post("/api/generate", {"prompt": "x", **body})
    assert answer == (400, {"error": error})


async def test_1_2_qwen3_that_cannot_think_is_to_be_pulled_again(
    front: Front, tmp_path: Path
) -> None:
    metadata = named("qwen3", LLAMA) | {"tokenizer.chat_template": CHATML}
    import_gguf(front.store.root, "old-qwen", write_gguf(tmp_path / "q.gguf", metadata, ()))
    error = (
        '"old-qwen" does not support thinking. Pull the model again to get the latest version '
        "with full thinking support"
    )
    body = {"model": "old-qwen", "messages": USER, "think": True}
    assert await front.post("/api/chat", body) == (400, {"error": error})


async def test_1_2_an_answer_without_tokens_has_its_counts(front: Front) -> None:
    front.runners.scripts.append([Delta(1, done=Done("stop", prompt_tokens=5, prompt_ns=7))])
    body = {"model": "chat", "prompt": "x", "stream": False}
    answer = (await front.post("/api/generate", body))[1]
    assert answer["response"] == ""
    assert (answer["prompt_eval_count"], answer["prompt_eval_duration"]) == (5, 7)
    assert (answer["eval_count"], answer["eval_duration"]) == (0, 0)


async def test_1_3_unload_and_load_of_chat(front: Front) -> None:
    for body, reason in (
        ({"keep_alive": "0s"}, "unload"),
        ({}, "load"),
        ({"messages": []}, "load"),
    ):
        status, answer = await front.post("/api/chat", {"model": "chat", **body})
        assert (status, answer["done_reason"], answer["done"]) == (200, reason, True)
        assert answer["message"] == {"role": "assistant", "content": ""}


async def test_1_3_content_is_a_string(front: Front) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    status, answer = await front.post("/api/chat", {"model": "chat", "messages": messages})
    assert (status, bool(answer["error"])) == (400, True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
    ],
)
async def test_1_5_types_are_strict(front: Front, options: dict[str, object], error: str) -> None:
    body = {"model": "chat", "prompt": "x", "options": options}
    assert await front.post("/api/generate", body) == (500, {"error": error})


async def test_1_5_numbers_are_cut_nulls_skipped_and_unknown_names_ignored(front: Front) -> None:
    options = {"num_predict": 7.9, "top_k": None, "numa": True, "mystery": [1]}
    assert (await ask(front, "generate", {"prompt": "x", "options": options}, "chat"))[0] == 200
    submit = front.runners.submits[0]
    assert (submit.limits.num_predict, submit.sampling.top_k) == (7, 40)


async def test_1_5_the_request_wins_over_the_modelfile(front: Front) -> None:
    await ask(front, "generate", {"prompt": "x"}, "full")
    await ask(front, "generate", {"prompt": "x", "options": {"num_predict": 2}}, "full")
    assert [submit.limits.num_predict for submit in front.runners.submits] == [7, 2]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        (True, "Unsupported type: 'bool'"),
    ],
)
async def test_1_6_bad_durations(front: Front, value: object, error: str) -> None:
    body = {"model": "chat", "keep_alive": value}
    assert await front.post("/api/generate", body) == (400, {"error": error})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 300.0),
        (1.5, 1.5),
        (-1, math.inf),
        ("-1m", math.inf),
        ("1h30m", 5400.0),
        ("5m0s", 300.0),
    ],
)
async def test_1_6_durations(front: Front, value: object, seconds: float) -> None:
    await front.post("/api/generate", {"model": "chat", "keep_alive": value})
    assert front.pool.loaded_models[0].keep_alive_s == seconds


async def test_1_10_inputs(front: Front) -> None:
    front.runners.vectors = [[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]
    for given, count in (("a", 1), (["a", "b"], 2), ([""], 1), ("", 0), ([], 0), (None, 0)):
        status, answer = await front.post("/api/embed", {"model": "vectors", "input": given})
        assert (status, len(answer["embeddings"])) == (200, count), given
        assert answer["model"] == "vectors"


@pytest.mark.parametrize("given", [1, {"a": 1}, [1], [["a"]], ["a", None]])
async def test_1_10_other_types(front: Front, given: object) -> None:
    answer = await front.post("/api/embed", {"model": "vectors", "input": given})
    assert answer == (400, {"error": "invalid input type"})


async def test_1_10_vectors_are_normalised_before_and_after_a_cut(front: Front) -> None:
    front.runners.vectors = [[3.0, 4.0, 0.0, 12.0]]
    for dimensions, vector in ((0, [3, 4, 0, 12]), (2, [3, 4]), (9, [3, 4, 0, 12])):
        body = {"model": "vectors", "input": "a", "dimensions": dimensions}
        (got,) = (await front.post("/api/embed", body))[1]["embeddings"]
        assert np.allclose(got, np.array(vector) / np.linalg.norm(vector))


async def test_1_12_an_empty_store(tmp_path: Path) -> None:
    async with start_front(tmp_path) as empty:
        assert await empty.get("/api/tags") == (200, {"models": []})
        assert await empty.get("/api/ps") == (200, {"models": []})


async def test_1_12_the_newest_comes_first_with_these_fields(front: Front) -> None:
    rows = (await front.get("/api/tags"))[1]["models"]
    times = [row["modified_at"] for row in rows]
    assert times == sorted(times, reverse=True)
    fields = {"name", "model", "modified_at", "size", "digest", "details", "capabilities"}
    (row,) = [row for row in rows if row["name"] == "chat:latest"]
    assert row.keys() == fields
    assert len(row["digest"]) == 64
    assert row["details"].keys() == {
        *("parent_model", "format", "family", "families", "parameter_size"),
        *("quantization_level", "context_length", "embedding_length"),
    }


async def test_1_13_the_fields_of_ps_and_the_longest_stay_first(front: Front) -> None:
    await front.post("/api/generate", {"model": "chat", "keep_alive": 60})
    await front.post("/api/generate", {"model": "thinker", "keep_alive": -1})
    rows = (await front.get("/api/ps"))[1]["models"]
    assert [row["name"] for row in rows] == ["thinker:latest", "chat:latest"]
    assert rows[0].keys() == {
        *("name", "model", "size", "digest", "details", "expires_at", "size_vram"),
        *("context_length", "memory"),
    }


async def test_1_13_a_model_that_was_created_again_has_its_new_digest(front: Front) -> None:
    await front.post(
        "/api/create", {"model": "again", "from": "chat", "system": "one", "stream": False}
    )
    await front.post("/api/generate", {"model": "again"})
    before = (await front.get("/api/ps"))[1]["models"][0]["digest"]
    again = {"model": "again", "from": "chat", "system": "two", "stream": False}
    await front.post("/api/create", again)
    (row,) = (await front.get("/api/ps"))[1]["models"]
    tags = {tag["name"]: tag for tag in (await front.get("/api/tags"))[1]["models"]}
    assert row["digest"] == tags["again:latest"]["digest"] != before
    assert row["details"] == tags["again:latest"]["details"]
    assert len(front.runners.loads) == 1, "its weights are the same"


async def test_1_14_every_field_of_show(front: Front, tmp_path: Path) -> None:
    metadata = named("llama", LLAMA) | {"tokenizer.chat_template": CHATML, "general.name": "N"}
    path = write_gguf(tmp_path / "s.gguf", metadata, ())
    params = {"num_predict": 7, "stop": ["a", "b"]}
    import_gguf(front.store.root, "shown", path, system="be kind", params=params)
    status, shown = await front.post("/api/show", {"model": "shown"})
    assert status == 200
    assert shown.keys() == {
        *("modelfile", "parameters", "template", "system", "details", "model_info", "tensors"),
        *("capabilities", "modified_at"),
    }
    head = '# Modelfile generated by "ollama show"\n# To build a new Modelfile based on this, '
    assert shown["modelfile"].startswith(f"{head}replace FROM with:\n# FROM shown:latest\n\nFROM ")
    lines = {tuple(line.split(maxsplit=1)) for line in shown["parameters"].splitlines()}
    assert lines == {("num_predict", "7"), ("stop", '"a"'), ("stop", '"b"')}
    assert all(line[30] == " " for line in shown["parameters"].splitlines())
    assert shown["template"] == CHATML
    info = shown["model_info"]
    assert info["general.architecture"] == "llama"
    assert info["llama.context_length"] == 8192
    assert "general.parameter_count" in info
    assert not {"general.name", "tokenizer.chat_template"} & info.keys()


async def test_1_14_the_request_replaces_system_and_template(front: Front) -> None:
    body = {"name": "full", "system": "mine", "template": "{{ .Prompt }}"}
    shown = (await front.post("/api/show", body))[1]
    assert (shown["system"], shown["template"]) == ("mine", "{{ .Prompt }}")


async def test_1_14_the_basename_and_what_copilot_is_told(front: Front) -> None:
    body = {"model": "chat:latest"}
    assert (await front.post("/api/show", body))[1]["model_info"]["general.basename"] == "chat"
    for agent, basename in (("GitHubCopilotChat/1.2", "chat:latest"), ("Other/1", "chat")):
        headers = {"User-Agent": agent}
        async with front.client.post("/api/show", json=body, headers=headers) as got:
            assert (await got.json())["model_info"]["general.basename"] == basename


async def test_1_14_figures_and_texts_that_json_lacks(front: Front, tmp_path: Path) -> None:
    odd = {"llama.limit": math.inf, "llama.none": math.nan, "llama.text": "a?b"}
    path = write_gguf(tmp_path / "odd.gguf", named("llama", LLAMA) | odd, ())
    path.write_bytes(path.read_bytes().replace(b"a?b", b"a\xffb"))
    import_gguf(front.store.root, "odd", path)
    status, text = await front.send("POST", "/api/show", {"model": "odd", "verbose": True})
    assert status == 200
    info = json.loads(text, parse_constant=lambda name: pytest.fail(name))["model_info"]
    found = (info["llama.limit"], info["llama.none"], info["llama.text"])
    assert found == (None, None, "a\ufffdb")


async def test_1_14_the_projector_has_its_own_figures(front: Front, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "p.gguf", named("clip", {"has_vision_encoder": True}), ())
    model = front.store.resolve("chat")
    app = front.client.app
    assert app
    index = app[APP_STATE].model_index
    info = await index.find("chat", "gone")
    seeing = dataclasses.replace(info, model=dataclasses.replace(model, projector_paths=(path,)))
    header = await index.read_projectors(seeing)
    assert header
    assert header.values["clip.has_vision_encoder"] is True
    path.write_bytes(b"no GGUF")
    assert await index.read_projectors(seeing) is None


async def test_1_15_copy_and_delete_answer_with_nothing(front: Front) -> None:
    copied = await front.send("POST", "/api/copy", {"source": "chat", "destination": "u/Copy:1"})
    assert copied == (200, "")
    assert await front.send("DELETE", "/api/delete", {"name": "U/copy:1"}) == (200, "")


async def test_1_15_deleting_does_not_unload(front: Front) -> None:
    await front.send("POST", "/api/copy", {"source": "chat", "destination": "gone-soon"})
    await front.post("/api/generate", {"model": "gone-soon"})
    await front.send("DELETE", "/api/delete", {"model": "gone-soon"})
    (row,) = (await front.get("/api/ps"))[1]["models"]
    assert row["name"] == "gone-soon:latest"
    assert row["details"]["family"] == "llama"
