"""Large bodies: none of them holds up other requests, and each gets one short answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientConnectionError
from fake_runner import DONE
from front import Front
from outrider.daemon.api.body import INLINE_BYTES, LENIENT_BYTES
from outrider.daemon.protocol import Delta

pytestmark = pytest.mark.unit

MB = 1 << 20
MAX_LATE_S = 0.5  # the goal is 0.05, on a machine that does nothing else
PAUSE_S = 0.005
CHAT_ROUTES = {
    "/api/chat": "messages",
    "/v1/chat/completions": "messages",
    "/v1/messages": "messages",
    "/v1/responses": "input",
}


@contextlib.asynccontextmanager
async def loop_watched() -> AsyncIterator[list[float]]:
    """How late a task woke up each time while the block ran, in seconds."""
    late_s: list[float] = []

    async def watch() -> None:
        while True:
            start_s = time.monotonic()
            await asyncio.sleep(PAUSE_S)
            late_s.append(time.monotonic() - start_s - PAUSE_S)

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield late_s
    finally:
        task.cancel()


def many(item: str, num_bytes: int) -> str:
    return ",".join([item] * (num_bytes // (len(item) + 1)))


async def refusal(front: Front, path: str, body: str) -> str:
    """The answer, a short one with status 400, after which the loop was never late."""
    async with loop_watched() as late_s:
        status, text = await front.send("POST", path, body.encode())
        await asyncio.sleep(2 * PAUSE_S)
    assert status == 400, text
    assert len(text) < 3_000
    assert max(late_s) < MAX_LATE_S
    return text


@pytest.mark.parametrize("path", CHAT_ROUTES)
@pytest.mark.parametrize("item", ['{"a":1}', "1", "[]", '{"role":"user","content":"hello"}'])
async def test_a_list_of_too_many_things(front: Front, path: str, item: str) -> None:
    body = f'{{"model":"chat","max_tokens":1,"{CHAT_ROUTES[path]}":[{many(item, MB * 5 // 2)}]}}'
    assert "the JSON has too many" in await refusal(front, path, body)


@pytest.mark.parametrize("path", CHAT_ROUTES)
async def test_a_list_of_wrong_things_ends_with_the_first(front: Front, path: str) -> None:
    items = ",".join(["[1]"] * 4000)
    body = f'{{"model":"chat","max_tokens":1,"{CHAT_ROUTES[path]}":[{items}]}}'
    assert ".0" in await refusal(front, path, body)


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("/api/chat", f'"messages":[{many("{}", 15_000)}]', "messages has 5,000 items; at most"),
        ("/api/chat", f'"tools":[{many("{}", 6_000)}]', "tools has 2,000 items; at most 1,024"),
        ("/api/generate", f'"prompt":{"[" * MB}', "the JSON is nested too deeply"),
        ("/api/generate", f'"context":[{many("1", 2 * MB)}]', "too many values: 1,048,5"),
        ("/api/generate", f'"context":[{many("[]", INLINE_BYTES)}]', "json: context.0: Input"),
        ("/api/generate", f'"prompt":"{chr(92)}{"n" + chr(92) * MB * 9}"', "too many escaped"),
        ("/api/generate", f'"seed":{"1" * MB}', "a number has 1,048,576 digits"),
        ("/api/generate", f'"prompt":"x","options":{{"seed":{10**30}}}', "an integer of 64 bits"),
        ("/api/generate", f'"top_logprobs":{10**30}', "top_logprobs must be an integer of 64 bits"),
        ("/api/generate", f'"context":[{10**30}]', "context"),
        ("/api/generate", f'"keep_alive":{"1" * 600}', "a number has 600 digits"),
        ("/api/generate", f'"keep_alive":"{"1" * 600}"', "time: missing unit in duration"),
        ("/api/generate", f'"keep_alive":"{"1" * MB}"', "time: invalid duration"),
        ("/api/generate", '"prompt":"x","options":{"temperature":1e999}', "1e999 does not fit"),
        ("/api/generate", '"prompt":"x","options":{"temperature":NaN}', "NaN is not a JSON number"),
        ("/api/generate", '"prompt":"x","options":{"top_k":Infinity}', "Infinity is not a JSON"),
        ("/api/create", f'"files":{{"{"f" * 3 * MB}":"x"}}', "invalid digest"),
        ("/api/embed", f'"input":[{many("1", 12_000)}]', "invalid input type"),
        ("/api/embed", f'"input":[{many(chr(34) * 2, 30_000)}]', "input has 10,000 items"),
    ],
)
async def test_a_field_beyond_its_bound(front: Front, path: str, fields: str, told: str) -> None:
    assert told in await refusal(front, path, f'{{"model":"chat",{fields}}}')


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_bias_for_too_many_tokens(front: Front, path: str) -> None:
    bias = json.dumps({str(token): 1 for token in range(5000)})
    text = await refusal(front, path, f'{{"model":"chat","logit_bias":{bias}}}')
    assert "logit_bias has 5,000 items; at most 4,096 are read" in text


async def test_a_name_of_the_client_is_quoted_in_part(front: Front) -> None:
    async with loop_watched() as late_s:
        status, answer = await front.post("/api/show", {"model": "a" * 80 + "/b" * MB})
    assert (status, max(late_s) < MAX_LATE_S) == (400, True)
    status, answer = await front.post("/api/chat", {"model": "a" * 80, "messages": []})
    assert status == 404
    assert len(answer["error"]) < 200


async def test_a_long_text_is_read_as_it_is(front: Front) -> None:
    front.runners.scripts.append((Delta(0, text="x", done=DONE),))
    text = 'é "\\\n[{' * (LENIENT_BYTES // 8)
    body = {"model": "chat", "prompt": text, "raw": True, "stream": False}
    async with loop_watched() as late_s:
        assert (await front.post("/api/generate", body))[0] == 200
    assert max(late_s) < MAX_LATE_S
    assert front.runners.submits[-1].prompt.text == text


@pytest.mark.parametrize("tail", ["\\ud83d", "\\ud83d\\ude00"])
async def test_a_large_body_with_half_an_emoji_is_read(front: Front, tail: str) -> None:
    front.runners.scripts.append((Delta(0, text="x", done=DONE),))
    text = "a" * 2 * INLINE_BYTES
    body = f'\ufeff {{"model":"chat","prompt":"{text}{tail}","raw":true,"stream":false}} tail'
    assert (await front.send("POST", "/api/generate", body.encode()))[0] == 200
    end = "\N{GRINNING FACE}" if len(tail) > 6 else "\ufffd"
    assert front.runners.submits[-1].prompt.text == text + end


async def test_a_very_large_body_has_to_be_json(front: Front) -> None:
    body = f'{{"model":"chat","prompt":"{"a" * LENIENT_BYTES}"}} tail'
    assert "invalid JSON: JSON is malformed" in await refusal(front, "/api/generate", body)


async def test_four_large_bodies_at_a_time(front: Front) -> None:
    body = f'{{"model":"chat","messages":[{many("{}", 9 * MB)}]}}'.encode()
    async with loop_watched() as late_s:
        answers = await asyncio.gather(*(front.send("POST", "/api/chat", body) for _ in range(4)))
    assert {status for status, _ in answers} == {400}
    assert max(late_s) < MAX_LATE_S


async def test_a_compressed_body_is_not_unpacked_without_a_bound(front: Front) -> None:
    """The rest of it is not even read, so that a client may see a closed connection."""
    packed = gzip.compress(b'{"model":"chat","prompt":"' + b"a" * 200 * MB + b'"}', 1)
    headers = {"Content-Encoding": "gzip"}
    status = 413
    async with loop_watched() as late_s:
        with contextlib.suppress(ClientConnectionError):
            data = io.BytesIO(packed)
            async with front.client.post("/api/generate", data=data, headers=headers) as answer:
                status = answer.status
    assert status == 413
    assert max(late_s) < MAX_LATE_S
    assert (await front.get("/api/version"))[0] == 200
