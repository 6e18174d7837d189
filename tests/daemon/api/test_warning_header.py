"""The header that tells what is not as its user wants it, in every dialect."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from fake_runner import DONE
from front import Front
from outrider.daemon.api.warning_header import MAX_CHARACTERS, WARNING, note, warning_header
from outrider.daemon.protocol import Delta, Ready

pytestmark = pytest.mark.unit

REFUSAL = "no drafter: /é.gguf is not used:\nthe vocabularies differ"
TOLD = "no drafter: /?.gguf is not used: the vocabularies differ"
MESSAGES = [{"role": "user", "content": "x"}]
TEXT_ROUTES: dict[str, dict[str, object]] = {
    "/api/generate": {"prompt": "x"},
    "/api/chat": {"messages": MESSAGES},
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "x"},
    "/v1/responses": {"input": "x"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 3},
}


@pytest.fixture
def warned(front: Front) -> Front:
    front.runners.ready = Ready(1000, 400, refusal=REFUSAL)
    return front


async def header(front: Front, path: str, body: dict[str, object]) -> str | None:
    async with front.client.post(path, data=json.dumps(body)) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
        assert len(answer.headers.getall(WARNING, [])) <= 1
        return answer.headers.get(WARNING)


@pytest.mark.parametrize("path", TEXT_ROUTES)
@pytest.mark.parametrize("stream", [True, False])
async def test_each_text_route_tells(warned: Front, path: str, stream: bool) -> None:
    warned.runners.scripts.append((Delta(1, text="Hi"), Delta(1, done=DONE)))
    body = {"model": "chat", **TEXT_ROUTES[path], "stream": stream}
    assert await header(warned, path, body) == TOLD


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
async def test_each_route_of_vectors_tells(warned: Front, path: str) -> None:
    warned.runners.vectors = [[1.0, 2.0, 3.0, 4.0]]
    assert await header(warned, path, {"model": "vectors", "input": "x"}) == TOLD


async def test_the_older_route_of_vectors_tells(warned: Front) -> None:
    warned.runners.vectors = [[1.0, 2.0, 3.0, 4.0]]
    assert await header(warned, "/api/embeddings", {"model": "vectors", "prompt": "x"}) == TOLD


async def test_a_load_and_a_count_tell(warned: Front) -> None:
    assert await header(warned, "/api/generate", {"model": "chat"}) == TOLD
    warned.runners.scripts.append((Delta(1, text="x", done=DONE),))
    body = {"model": "chat", "messages": MESSAGES}
    assert await header(warned, "/v1/messages/count_tokens", body) == TOLD


async def test_several_choices_tell_once(warned: Front) -> None:
    for _ in range(3):
        warned.runners.scripts.append((Delta(1, text="Hi"), Delta(1, done=DONE)))
    body = {"model": "chat", "messages": MESSAGES, "n": 3}
    assert await header(warned, "/v1/chat/completions", body) == TOLD


async def test_without_warnings_there_is_no_header(front: Front) -> None:
    assert await header(front, "/api/generate", {"model": "chat"}) is None


async def test_the_log_tells_once_for_each_load(
    warned: Front, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        await header(warned, "/api/generate", {"model": "chat"})
    assert [r.getMessage() for r in caplog.records].count(f"chat:latest: {REFUSAL}") == 1
    (row,) = (await warned.get("/api/ps"))[1]["models"]
    assert row["memory"]["warnings"] == [REFUSAL]


def test_sentences_are_joined_and_the_value_is_bounded() -> None:
    request: web.Request = make_mocked_request("GET", "/")
    assert warning_header(request) == {}
    note(request, ("first", "second"))
    note(request, ("second", "third\r\nSet-Cookie: x"))
    assert warning_header(request) == {WARNING: "first; second; third Set-Cookie: x"}
    note(request, ["long " * 1000])
    value = warning_header(request)[WARNING]
    assert len(value) <= MAX_CHARACTERS
    assert value.endswith("long...")
