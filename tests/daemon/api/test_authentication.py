"""API keys over HTTP: who is let in, what others are told, and how much a key may run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from front import Front, start_front
from outrider.daemon.api.authentication import (
    AUTHENTICATOR,
    Authenticator,
    build_authentication,
)
from outrider.daemon.api_keys import KeyRing, parse_keys
from outrider.daemon.cli.client import NEEDS_KEY, Client, DaemonError
from outrider.daemon.errors import TooManyRequests, Unauthorized
from pydantic import SecretStr

pytestmark = pytest.mark.unit

KEYS = SecretStr("phone:secret-phone,laptop:secret-laptop")
KEY = "secret-phone"


@pytest.fixture
async def locked(header_store: Path) -> AsyncIterator[Front]:
    async with start_front(header_store, api_key=KEYS) as front:
        yield front


async def status(front: Front, method: str, path: str, **headers: str) -> int:
    async with front.client.request(method, path, headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer   {KEY} "},
        {"x-api-key": KEY},
        {"X-API-KEY": "secret-laptop"},
        {"x-api-key": KEY, "Authorization": "Bearer ollama"},
    ],
)
async def test_a_key_lets_in(locked: Front, headers: dict[str, str]) -> None:
    assert await status(locked, "GET", "/api/tags", **headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer secret-phone,secret-laptop"},
        {"x-api-key": "phone"},
        {"x-api-key": ""},
        {"Cookie": f"x-api-key={KEY}"},
    ],
)
async def test_everything_else_does_not(locked: Front, headers: dict[str, str]) -> None:
    for method, path in (
        *(("GET", "/api/tags"), ("POST", "/api/chat"), ("DELETE", "/api/delete")),
        *(("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/"), ("GET", "/nothing")),
        *(("GET", "/v1/models"), ("POST", "/v1/messages"), ("PUT", "/api/tags")),
    ):
        assert await status(locked, method, path, **headers) == 401, path


async def test_each_dialect_words_the_refusal(locked: Front) -> None:
    async def refusal(path: str) -> Any:
        async with locked.client.post(path, data=b"{}") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Outrider"'
            return await answer.json()

    assert await refusal("/api/chat") == {"error": "unauthorized"}
    error = (await refusal("/v1/chat/completions"))["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert "Authorization: Bearer KEY" in error["message"]
    answer = await refusal("/v1/messages")
    assert (answer["type"], answer["error"]["type"]) == ("error", "authentication_error")
    assert answer["request_id"].startswith("req_")


async def test_a_probe_and_a_preflight_need_no_key(locked: Front) -> None:
    assert await status(locked, "HEAD", "/") == 200
    assert await status(locked, "GET", "/") == 200
    assert await status(locked, "GET", "/api/version") == 200
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    async with locked.client.options("/api/chat", headers=asked) as answer:
        assert answer.status == 204
        allowed = answer.headers["Access-Control-Allow-Headers"]
        assert {"Authorization", "X-Api-Key"} <= set(allowed.split(","))


async def test_a_page_may_read_the_refusal(locked: Front) -> None:
    headers = {"Origin": "http://localhost:3000"}
    async with locked.client.get("/api/tags", headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


async def test_without_keys_every_key_is_taken(front: Front) -> None:
    assert await status(front, "GET", "/api/tags") == 200
    assert await status(front, "GET", "/api/tags", Authorization="Bearer ollama") == 200


async def test_the_log_has_the_name_of_the_key_alone(
    locked: Front, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "outrider")
    await status(locked, "GET", "/api/tags", Authorization=f"Bearer {KEY}")
    await status(locked, "GET", "/api/tags", Authorization="Bearer wrong-secret")
    assert caplog.messages[0].endswith(" s key=phone")
    assert "secret" not in caplog.text


async def test_keys_may_be_replaced_while_the_daemon_runs(locked: Front) -> None:
    assert locked.client.app is not None
    locked.client.app[AUTHENTICATOR].keys = KeyRing(parse_keys("new:secret-new"))
    assert await status(locked, "GET", "/api/tags", **{"x-api-key": KEY}) == 401
    assert await status(locked, "GET", "/api/tags", **{"x-api-key": "secret-new"}) == 200


async def test_the_commands_send_their_key(locked: Front) -> None:
    async with Client(locked.url, KEY) as client:
        assert (await client.get("/api/tags"))["models"]
    async with Client(locked.url) as client:
        with pytest.raises(DaemonError) as caught:
            await client.get("/api/tags")
    assert str(caught.value) == NEEDS_KEY


async def test_the_official_clients_send_their_key(locked: Front) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}  # of OLLAMA_API_KEY
    async with ollama.AsyncClient(locked.url, headers=headers) as ollamas:
        assert (await ollamas.list()).models
    async with openai.AsyncOpenAI(base_url=f"{locked.url}/v1", api_key=KEY) as client:
        assert (await client.models.list()).data
    async with anthropic.AsyncAnthropic(base_url=locked.url, api_key=KEY) as anthropics:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await anthropics.messages.create(model="gone", max_tokens=1, messages=[USER])
    assert missing.value.request_id == missing.value.response.headers["x-request-id"]


USER: anthropic.types.MessageParam = {"role": "user", "content": "x"}


async def test_the_official_clients_know_the_refusal(locked: Front) -> None:
    async with ollama.AsyncClient(locked.url) as ollamas:
        with pytest.raises(ollama.ResponseError, match="unauthorized") as refused:
            await ollamas.list()
    assert refused.value.status_code == 401
    async with openai.AsyncOpenAI(base_url=f"{locked.url}/v1", api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            await client.models.list()
    assert wrong.value.code == "invalid_api_key"
    assert (wrong.value.request_id or "").startswith("req_")
    async with anthropic.AsyncAnthropic(base_url=locked.url, api_key="wrong") as anthropics:
        with pytest.raises(anthropic.AuthenticationError):
            await anthropics.messages.create(model="m", max_tokens=1, messages=[USER])


async def test_a_key_runs_a_bounded_number_of_requests_at_a_time() -> None:
    gate = asyncio.Event()
    authenticate = build_authentication(
        Authenticator(KeyRing(parse_keys(KEYS.get_secret_value())), 2)
    )

    async def wait(_request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    def send(method: str, key: str) -> asyncio.Task[web.StreamResponse]:
        request = make_mocked_request(method, "/api/chat", {"x-api-key": key})
        return asyncio.ensure_future(authenticate(request, wait))

    running = [send("POST", KEY), send("POST", KEY)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests, match="API key phone: at most 2 may run"):
        await send("POST", KEY)
    others = [send("POST", "secret-laptop"), send("GET", KEY)]
    running[0].cancel()
    await asyncio.wait(running[:1])
    others.append(send("POST", KEY))
    gate.set()
    assert [answer.status for answer in await asyncio.gather(*others, running[1])] == [200] * 4
    assert (await send("POST", KEY)).status == 200
    with pytest.raises(Unauthorized):
        await send("POST", "wrong")


async def test_each_dialect_words_too_many_requests(header_store: Path) -> None:
    async with start_front(header_store, api_key=KEYS, key_parallel=1) as front:
        assert front.client.app is not None
        headers = {"x-api-key": KEY}
        with front.client.app[AUTHENTICATOR].admit("phone"):
            for path, place in (
                ("/api/chat", "error"),
                ("/v1/chat/completions", "rate_limit_exceeded"),
                ("/v1/messages", "rate_limit_error"),
            ):
                async with front.client.post(path, data=b"{}", headers=headers) as answer:
                    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
                    assert place in json.dumps(await answer.json())
