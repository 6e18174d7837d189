"""Requests: which bodies are accepted, and how a bad one is refused (CONTRACT 0 and 1)."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from backports.zstd import compress as compress_zstd
from outrider.daemon.api.body import READING, read
from outrider.daemon.api.ollama.errors import ERRORS
from outrider.daemon.api.ollama.wire import (
    ChatRequest,
    CompletionFields,
    GenerateRequest,
    NameRequest,
    WireMessage,
)
from outrider.daemon.errors import OutriderError

pytestmark = pytest.mark.unit

LIMIT = 1 << 20
LEVELS = '"high", "medium", "low", "max", true, or false'


async def parse(request: web.Request) -> web.Response:
    """The fields of the request that differ from the defaults, or its error."""
    kinds: dict[str, type[CompletionFields]] = {"generate": GenerateRequest, "chat": ChatRequest}
    try:
        body = await read(request, kinds[request.match_info["kind"]])
    except OutriderError as error:
        reply = ERRORS.explain(error, request)
        return web.json_response(reply.body, status=reply.status)
    return web.json_response(body.model_dump(exclude_defaults=True))


@pytest.fixture
async def client() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application(client_max_size=LIMIT)
    app[READING] = asyncio.Semaphore(1)
    app.router.add_post("/{kind}", parse)
    async with TestClient(TestServer(app)) as running:
        yield running


class Ask:
    """Sends bodies as they are."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self._client = client

    async def __call__(self, body: str | bytes, kind: str = "generate") -> tuple[int, object]:
        data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        async with self._client.post(f"/{kind}", data=data) as answer:
            return answer.status, await answer.json()

    async def refused(self, body: str | bytes, kind: str = "generate") -> str:
        status, answer = await self(body, kind)
        assert status == 400, answer
        assert isinstance(answer, dict)
        return str(answer["error"])


@pytest.fixture
def ask(client: TestClient[web.Request, web.Application]) -> Ask:
    return Ask(client)


async def test_keys_count_in_any_case_and_unknown_ones_do_not(ask: Ask) -> None:
    body = '{"MODEL":"m","Prompt":"p","KEEP_ALIVE":1,"Surprise":{"model":"x"}}'
    assert await ask(body) == (200, {"model": "m", "prompt": "p", "keep_alive": 1.0})


async def test_keys_inside_messages_count_in_any_case_but_not_those_of_data(ask: Ask) -> None:
    call = {"Function": {"Name": "f", "Arguments": {"City": "K", "x": None}}}
    body = {
        "Messages": [{"Role": "user", "CONTENT": "c", "Tool_Calls": [call]}],
        "options": {"A": 1},
    }
    status, answer = await ask(json.dumps(body), "chat")
    assert status == 200
    function = {"name": "f", "arguments": {"City": "K", "x": None}}
    message = {"role": "user", "content": "c", "tool_calls": [{"function": function}]}
    assert answer == {"messages": [message], "options": {"A": 1}}


async def test_null_means_not_given(ask: Ask) -> None:
    fields = [
        *("model", "prompt", "system", "context", "stream", "raw", "format", "keep_alive"),
        *("options", "think", "truncate", "shift", "images", "top_logprobs"),
    ]
    assert await ask(json.dumps(dict.fromkeys(fields))) == (200, {})
    assert await ask('{"messages":null,"tools":null}', "chat") == (200, {})


@pytest.mark.parametrize(
    "body", ["null", "{}", " \r\n\t{}", "\ufeff{}", '{} {"model":"x"}', "{}]["]
)
async def test_a_body_without_fields_and_what_stands_around_it(ask: Ask, body: str) -> None:
    assert await ask(body) == (200, {})


async def test_the_defaults() -> None:
    request = GenerateRequest.model_validate({})
    assert (request.stream, request.truncate, request.shift) == (True, True, True)
    assert (request.raw, request.logprobs, request.render_only) == (False, False, False)
    assert (request.keep_alive, request.think, request.format) == (None, None, "")
    assert NameRequest.model_validate({"NAME": "x"}) == NameRequest(name="x")
    assert WireMessage.model_validate(None) == WireMessage()


async def test_the_debug_key_begins_with_an_underscore(ask: Ask) -> None:
    assert await ask('{"_debug_render_only":true}') == (200, {"render_only": True})


@pytest.mark.parametrize("body", ["", "  \n", "\ufeff"])
async def test_an_empty_body(ask: Ask, body: str) -> None:
    assert await ask.refused(body) == "missing request body"


@pytest.mark.parametrize(
    "body",
    ["{", "x", '{"model":', '{"model" "x"}', "{'model':'x'}", b"\xff\xfe{}", "[" * 100_000],
)
async def test_what_is_not_json(ask: Ask, body: str | bytes) -> None:
    assert "JSON" in await ask.refused(body)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "9" * 5000])
async def test_numbers_that_are_not_json(ask: Ask, number: str) -> None:
    assert "JSON" in await ask.refused(f'{{"options":{{"top_p":{number}}}}}')


@pytest.mark.parametrize("body", ["[]", '"model"', "1", "true"])
async def test_json_that_is_no_object(ask: Ask, body: str) -> None:
    assert (await ask.refused(body)).startswith("json: the request: ")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"model":1}', "model"),
        ('{"prompt":["p"]}', "prompt"),
        ('{"stream":1}', "stream"),
        ('{"stream":"true"}', "stream"),
        ('{"raw":"no"}', "raw"),
        ('{"top_logprobs":"5"}', "top_logprobs"),
        ('{"top_logprobs":true}', "top_logprobs"),
        ('{"context":[1,"2"]}', "context.1"),
        ('{"context":[1.5]}', "context.0"),
        ('{"images":"aGk="}', "images"),
        ('{"options":[]}', "options"),
        ('{"format":7}', "format"),
    ],
)
async def test_types_are_strict_and_the_place_is_named(ask: Ask, body: str, place: str) -> None:
    assert (await ask.refused(body)).startswith(f"json: {place}")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"messages":{}}', "messages"),
        ('{"messages":["hi"]}', "messages.0"),
        ('{"messages":[{"content":["hi"]}]}', "messages.0.content"),
        ('{"messages":[{},{"role":1}]}', "messages.1.role"),
        (
            '{"messages":[{"tool_calls":[{"function":{"arguments":"{}"}}]}]}',
            "messages.0.tool_calls",
        ),
        ('{"tools":["weather"]}', "tools.0"),
    ],
)
async def test_a_bad_message_is_named_by_its_place(ask: Ask, body: str, place: str) -> None:
    assert (await ask.refused(body, "chat")).startswith(f"json: {place}")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("5", 5), ("0.5", 0.5), ('"0"', 0), ('"10m"', 600), ('"5m0s"', 300)],
)
async def test_keep_alive(ask: Ask, value: str, seconds: float) -> None:
    assert await ask(f'{{"keep_alive":{value}}}') == (200, {"keep_alive": seconds})


@pytest.mark.parametrize("value", [-1, -0.5, "-1m", "-1"])
def test_a_negative_keep_alive_is_forever(value: object) -> None:
    if value == "-1":
        with pytest.raises(ValueError, match="missing unit"):
            GenerateRequest.model_validate({"keep_alive": value})
    else:
        assert GenerateRequest.model_validate({"keep_alive": value}).keep_alive == math.inf


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('""', 'time: invalid duration ""'),
        ('"5"', 'time: missing unit in duration "5"'),
        ("true", "Unsupported type: 'bool'"),
        ("[]", "Unsupported type: '[]interface {}'"),
        ("9" * 400, "a duration must fit a 64-bit float"),
    ],
)
async def test_a_bad_keep_alive(ask: Ask, value: str, text: str) -> None:
    assert await ask.refused(f'{{"keep_alive":{value}}}') == text


@pytest.mark.parametrize("value", [True, False, "low", "medium", "high", "max"])
async def test_think(ask: Ask, value: bool | str) -> None:
    assert await ask(json.dumps({"think": value})) == (200, {"think": value})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"x"', f'invalid think value: "x" (must be {LEVELS})'),
        ('"HIGH"', f'invalid think value: "HIGH" (must be {LEVELS})'),
        ('""', f'invalid think value: "" (must be {LEVELS})'),
        ("1", f"think must be a boolean or string ({LEVELS})"),
        ("[]", f"think must be a boolean or string ({LEVELS})"),
    ],
)
async def test_a_bad_think(ask: Ask, value: str, text: str) -> None:
    assert await ask.refused(f'{{"think":{value}}}') == text


async def test_half_an_emoji_becomes_a_replacement_character(ask: Ask) -> None:
    body = r'{"prompt":"a\ud83d b\uDC4B \ud83d\udc4b","options":{"\ud83d":["\udc4b"]}}'
    _, answer = await ask(body)
    assert answer == {
        "prompt": "a\ufffd b\ufffd \N{WAVING HAND SIGN}",
        "options": {"\ufffd": ["\ufffd"]},
    }
    json.dumps(answer, ensure_ascii=False).encode()


async def test_bytes_that_are_no_utf8_do_not_stop_a_request(ask: Ask) -> None:
    assert await ask(b'{"prompt":"a\xffb"}') == (200, {"prompt": "a\ufffdb"})


async def test_a_body_over_the_limit(ask: Ask) -> None:
    status, answer = await ask(json.dumps({"prompt": "x" * LIMIT}))
    assert status == 413
    assert answer == {"error": "the request body is too large: at most 1 MiB are read"}


PACKED = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": compress_zstd}


@pytest.mark.parametrize("encoding", PACKED)
async def test_a_compressed_body_is_read_and_a_broken_one_refused(
    client: TestClient[web.Request, web.Application], encoding: str
) -> None:
    headers = {"Content-Encoding": encoding}
    body = b'{"model":"m"}'
    async with client.post("/chat", data=PACKED[encoding](body), headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"model": "m"})
    async with client.post("/chat", data=body, headers=headers) as response:
        assert response.status == 400
        assert "cannot be read" in (await response.json())["error"]
