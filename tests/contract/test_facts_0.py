"""CONTRACT 0, fact by fact: HTTP in general."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from fake_runner import DONE
from front import Front
from outrider.daemon.errors import RunnerDied
from outrider.daemon.protocol import Delta

pytestmark = pytest.mark.unit

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
ANSWER = (Delta(1, text="Hi"), Delta(1, done=DONE))
NATIVE = ("generate", "chat", "embed", "embeddings", "show", "copy", "pull", "create")
OPENAI = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


async def test_0_the_content_type_of_a_request_is_not_checked(front: Front) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        headers = {"Content-Type": kind}
        async with front.client.post("/api/show", data=b'{"model":"chat"}', headers=headers) as got:
            assert got.status == 200, kind


async def test_0_keys_match_in_any_case_and_unknown_ones_are_ignored(front: Front) -> None:
    body = b'{"MODEL":"chat","Verbose":false,"novelty":{"x":[1]}}'
    assert (await front.send("POST", "/api/show", body))[0] == 200


async def test_0_what_follows_the_first_value_is_ignored(front: Front) -> None:
    assert (await front.send("POST", "/api/show", b'{"model":"chat"} trailing {'))[0] == 200


async def test_0_null_is_an_empty_object(front: Front) -> None:
    assert await front.post("/api/show", b"null") == (400, {"error": "model is required"})


@pytest.mark.parametrize("route", NATIVE)
async def test_0_an_empty_body_of_a_native_route(front: Front, route: str) -> None:
    assert await front.post(f"/api/{route}", b"") == (400, {"error": "missing request body"})


@pytest.mark.parametrize("path", OPENAI)
async def test_0_an_empty_body_of_an_openai_route(front: Front, path: str) -> None:
    status, answer = await front.post(path, b"")
    assert (status, answer["error"]["message"]) == (400, "EOF")


@pytest.mark.parametrize("body", [b"{", b"x", b'{"messages":"text"}', b'{"messages":[{"role":1}]}'])
async def test_0_bad_json_is_400_with_a_text(front: Front, body: bytes) -> None:
    status, answer = await front.post("/api/chat", body)
    assert status == 400
    assert answer["error"]


@pytest.mark.parametrize(
    ("image", "byte"),
    [
        ("data:image/png;base64,AAAA", 4),
        ("AAA*", 3),
        ("A", 0),
        ("AAAAAA", 4),
        ("AA=", 3),
        ("=AAA", 0),
        ("AAAA====", 4),
    ],
)
async def test_0_bad_base64(front: Front, image: str, byte: int) -> None:
    error = {"error": f"illegal base64 data at input byte {byte}"}
    asked = {"model": "chat", "prompt": "x", "images": [image]}
    assert await front.post("/api/generate", asked) == (400, error)
    messages = [{"role": "user", "content": "x", "images": [image]}]
    assert await front.post("/api/chat", {"model": "chat", "messages": messages}) == (400, error)


@pytest.mark.parametrize("image", ["", "AAAA", "AAA=", "AA==", "AA\r\nA=\n"])
async def test_0_good_base64_is_not_what_is_wrong(front: Front, image: str) -> None:
    status, answer = await front.post(
        "/api/generate", {"model": "chat", "prompt": "x", "images": [image]}
    )
    assert (status, "base64" in answer["error"]) == (501, False)


async def test_0_an_error_is_json_with_one_key(front: Front) -> None:
    async with front.client.post("/api/show", json={"model": "nobody"}) as got:
        assert got.headers["Content-Type"] == "application/json; charset=utf-8"
        assert list(await got.json()) == ["error"]


async def test_0_an_unknown_route(front: Front) -> None:
    for path in ("/nothing", "/api/tokenize", "/api/health", "/v1/rerank", "/v1/images/x"):
        async with front.client.get(path) as got:
            assert (got.status, await got.text()) == (404, "404 page not found")
            assert got.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/chat", "POST"),
        ("POST", "/api/delete", "DELETE"),
        ("PUT", "/api/blobs/x", "HEAD,POST"),
        ("POST", "/api/tags", "GET,HEAD"),
    ],
)
async def test_0_a_wrong_method(front: Front, method: str, path: str, allow: str) -> None:
    async with front.client.request(method, path) as got:
        assert (got.status, await got.text()) == (405, "405 method not allowed")
        assert sorted(got.headers["Allow"].split(",")) == sorted(allow.split(","))


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("POST", 307), ("DELETE", 307)])
async def test_0_a_trailing_slash_is_redirected(front: Front, method: str, status: int) -> None:
    path = "/api/tags/?a=b"
    async with front.client.request(method, path, allow_redirects=False) as got:
        assert (got.status, got.headers["Location"]) == (status, "/api/tags?a=b")


async def test_0_times_are_rfc_3339(front: Front) -> None:
    front.runners.scripts.append(ANSWER)
    lines = await front.lines("/api/chat", CHAT)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["created_at"]) for line in lines)
    tags = (await front.get("/api/tags"))[1]["models"]
    shown = (await front.post("/api/show", {"model": "chat"}))[1]
    for text in (tags[0]["modified_at"], shown["modified_at"]):
        assert datetime.fromisoformat(text).tzinfo
        assert re.search(r"[+-]\d\d:\d\d$|Z$", text)


async def test_0_durations_are_whole_nanoseconds(front: Front) -> None:
    front.runners.scripts.append(ANSWER)
    last = (await front.lines("/api/chat", CHAT))[-1]
    durations = {key: value for key, value in last.items() if key.endswith("_duration")}
    assert len(durations) == 4
    assert all(isinstance(value, int) for value in durations.values())


async def test_0_a_stream_is_the_default_of_generate_and_chat(front: Front) -> None:
    for path, body in (("chat", CHAT), ("generate", {"model": "chat", "prompt": "x"})):
        for stream in ({}, {"stream": None}):
            front.runners.scripts.append(ANSWER)
            async with front.client.post(f"/api/{path}", json={**body, **stream}) as got:
                assert got.headers["Content-Type"] == "application/x-ndjson"
                assert len((await got.text()).splitlines()) == 2
        front.runners.scripts.append(ANSWER)
        async with front.client.post(f"/api/{path}", json={**body, "stream": False}) as got:
            assert got.headers["Content-Type"] == "application/json; charset=utf-8"
            assert (await got.json())["done"] is True


async def test_0_create_without_a_stream_answers_with_its_last_line(front: Front) -> None:
    body = {"model": "fact-0", "from": "chat", "stream": False}
    assert await front.post("/api/create", body) == (200, {"status": "success"})


async def test_0_an_error_before_the_first_line_has_a_status(front: Front) -> None:
    front.runners.scripts.append([RunnerDied("gone")])
    assert await front.post("/api/chat", CHAT) == (500, {"error": "gone"})


async def test_0_an_error_after_the_first_line_is_the_last_one(front: Front) -> None:
    front.runners.scripts.append([Delta(1, text="Hi"), RunnerDied("gone")])
    first, last = await front.lines("/api/chat", CHAT)
    assert (first["done"], last) == (False, {"error": "gone"})


async def test_0_head_of_the_root_is_the_probe_of_clients(front: Front) -> None:
    assert await front.send("HEAD", "/") == (200, "")
    assert await front.send("GET", "/") == (200, "Ollama is running")
