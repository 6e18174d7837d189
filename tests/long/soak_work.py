"""What do the clients of a soak do? A mix of all that clients do, in a random order."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from long.dialects import DIALECTS, DONE, follow
from long.request_mutation import SCHEMA, TOOL

Json = dict[str, Any]
PROMPTS = 40  # different ones, so that caches of prompts come to rest
TOKENS = 24
PROBE = "chat"  # the kind whose times are compared
ENDLESS = 100_000  # tokens


@dataclass
class SoakRecord:
    """What the clients have done, and how it went."""

    start_s: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    took: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # (when, seconds)

    def add(self, kind: str, took_s: float) -> None:
        self.counts[kind] += 1
        self.took.setdefault(kind, []).append((time.monotonic() - self.start_s, took_s))


Work = Callable[[aiohttp.ClientSession, random.Random], Awaitable[str]]
"""Does one thing; returns what was wrong."""


async def _stream(session: aiohttp.ClientSession, number: int, model: str, text: str) -> str:
    dialect = DIALECTS[number]
    outcome = await follow(session, dialect, dialect.body(model, text, TOKENS))
    return "" if outcome.end.kind == DONE else f"{dialect.path}: {outcome}"


def _prompt(draw: random.Random) -> str:
    number = draw.randrange(PROMPTS)
    return f"Tell me of number {number}. " + "It is long ago. " * (number % 9)


async def chat(session: aiohttp.ClientSession, draw: random.Random) -> str:
    return await _stream(session, 1, "tiny", _prompt(draw))


async def other_dialect(session: aiohttp.ClientSession, draw: random.Random) -> str:
    return await _stream(session, draw.randrange(len(DIALECTS)), "tiny", _prompt(draw))


async def _post(session: aiohttp.ClientSession, path: str, body: Json) -> tuple[int, Json]:
    async with session.post(path, json=body) as response:
        return response.status, await response.json()


async def tools(session: aiohttp.ClientSession, draw: random.Random) -> str:
    message = {"role": "user", "content": "What is the weather in Paris?"}
    body = {"model": "router", "messages": [message], "tools": [TOOL], "stream": False}
    status, answer = await _post(session, "/api/chat", body)
    ok = status == 200 and answer["message"].get("tool_calls")
    return "" if ok else f"tools: {status} {answer}"


async def schema(session: aiohttp.ClientSession, draw: random.Random) -> str:
    body = {
        "model": "tiny",
        "prompt": _prompt(draw),
        "format": SCHEMA,
        "stream": False,
        "options": {"num_predict": TOKENS, "temperature": 0},
    }
    status, answer = await _post(session, "/api/generate", body)
    return "" if status == 200 and answer["done"] else f"schema: {status} {answer}"


async def embed(session: aiohttp.ClientSession, draw: random.Random) -> str:
    body = {"model": "bert", "input": [_prompt(draw) for _ in range(draw.choice((1, 4)))]}
    status, answer = await _post(session, "/api/embed", body)
    return "" if status == 200 and answer["embeddings"] else f"embed: {status} {answer}"


async def cancel(session: aiohttp.ClientSession, draw: random.Random) -> str:
    """Leaves in the middle of a stream."""
    body = DIALECTS[0].body("tiny", _prompt(draw), ENDLESS)
    async with session.post("/api/generate", json=body) as response:
        for _ in range(draw.randrange(1, 6)):
            await response.content.readline()
        response.close()
        return "" if response.status == 200 else f"cancel: {response.status}"


async def disconnect(session: aiohttp.ClientSession, draw: random.Random) -> str:
    """Leaves before the first line."""
    request = _stream(session, draw.randrange(len(DIALECTS)), "tiny", _prompt(draw))
    try:
        return await asyncio.wait_for(request, draw.uniform(0, 0.05))
    except TimeoutError:
        return ""


async def slow_reader(session: aiohttp.ClientSession, draw: random.Random) -> str:
    """Reads a long stream in small pieces with pauses, then leaves."""
    body = DIALECTS[0].body("tiny", _prompt(draw), ENDLESS)
    async with session.post("/api/generate", json=body) as response:
        for _ in range(5):
            await response.content.read(500)
            await asyncio.sleep(0.2)
        response.close()
        return "" if response.status == 200 else f"slow reader: {response.status}"


async def reload(session: aiohttp.ClientSession, draw: random.Random) -> str:
    """Loads one of two models, which leaves again at once."""
    body = {
        "model": draw.choice(("first", "second")),
        "prompt": "x",
        "keep_alive": 0,
        "stream": False,
        "options": {"num_predict": 4},
    }
    status, answer = await _post(session, "/api/generate", body)
    return "" if status == 200 and answer["done"] else f"reload: {status} {answer}"


async def look(session: aiohttp.ClientSession, draw: random.Random) -> str:
    path = draw.choice(("/api/tags", "/api/ps", "/metrics", "/api/snapshot", "/v1/models"))
    async with session.get(path) as response:
        text = await response.text()
    return "" if response.status == 200 else f"{path}: {response.status} {text}"


async def refused(session: aiohttp.ClientSession, draw: random.Random) -> str:
    """A request that is wrong, which leaves nothing either."""
    body = {"model": "none", "prompt": "x"} if draw.random() < 0.5 else {"prompt": 1}
    async with session.post("/api/generate", data=json.dumps(body)) as response:
        await response.read()
    return "" if response.status in (400, 404) else f"refused: {response.status}"


WORK: Mapping[str, tuple[Work, int]] = {  # with their weights
    PROBE: (chat, 30),
    "other dialect": (other_dialect, 20),
    "tools": (tools, 10),
    "schema": (schema, 8),
    "embed": (embed, 10),
    "cancel": (cancel, 6),
    "disconnect": (disconnect, 6),
    "slow reader": (slow_reader, 2),
    "reload": (reload, 1),
    "look": (look, 4),
    "refused": (refused, 3),
}


async def work_for(url: str, for_s: float, streams: int, seed: int, record: SoakRecord) -> None:
    """So many clients at a time do random work until the time is over."""
    end_s = time.monotonic() + for_s

    async def client(number: int) -> None:
        draw = random.Random(f"{seed} {number} {for_s}")
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with aiohttp.ClientSession(url, timeout=timeout) as session:
            while time.monotonic() < end_s:
                weights = [weight for _, weight in WORK.values()]
                (kind,) = draw.choices(list(WORK), weights)
                begun_s = time.monotonic()
                try:
                    wrong = await WORK[kind][0](session, draw)
                except (aiohttp.ClientError, TimeoutError) as error:
                    wrong = f"{kind}: {error!r}"
                record.add(kind, time.monotonic() - begun_s)
                if wrong:
                    record.errors.append(wrong)

    await asyncio.gather(*(client(number) for number in range(streams)))
