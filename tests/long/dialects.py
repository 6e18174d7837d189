"""How does a client of each dialect ask for a stream, and how does that stream end?"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

Json = dict[str, Any]
DONE, FAILED, CUT = "done", "failed", "cut"


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream: it is done, it failed with a text, or it was cut off without a word."""

    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A route that streams."""

    path: str
    body: Callable[[str, str, int], Json]  # of a model, a text, and the most tokens of an answer
    judge: Callable[[str], StreamEnd | None]  # by a line of the stream; None: more lines follow


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request."""

    status: int
    end: StreamEnd
    lines: int
    ended_s: float  # on the monotonic clock


def _native(line: str) -> StreamEnd | None:
    answer = json.loads(line)
    if "error" in answer:
        return StreamEnd(FAILED, answer["error"])
    return StreamEnd(DONE) if answer.get("done") else None


def _openai(line: str) -> StreamEnd | None:
    if line == "data: [DONE]":
        return StreamEnd(DONE)
    if not line.startswith("data: "):
        return None
    answer = json.loads(line.removeprefix("data: "))
    return StreamEnd(FAILED, answer["error"]["message"]) if "error" in answer else None


def _events(line: str) -> StreamEnd | None:
    """Of the Responses API and of Anthropic: each event names its type."""
    if not line.startswith("data: "):
        return None
    event = json.loads(line.removeprefix("data: "))
    if event["type"] in ("response.completed", "message_stop"):
        return StreamEnd(DONE)
    if event["type"] == "response.failed":
        return StreamEnd(FAILED, event["response"]["error"]["message"])
    return StreamEnd(FAILED, event["error"]["message"]) if event["type"] == "error" else None


def _chat(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def _options(tokens: int) -> Json:
    return {"num_predict": tokens, "temperature": 0}


DIALECTS = (
    Dialect(
        "/api/generate",
        lambda model, text, n: {"model": model, "prompt": text, "options": _options(n)},
        _native,
    ),
    Dialect(
        "/api/chat",
        lambda model, text, n: {"model": model, "messages": _chat(text), "options": _options(n)},
        _native,
    ),
    Dialect(
        "/v1/chat/completions",
        lambda model, text, n: {
            "model": model,
            "messages": _chat(text),
            "stream": True,
            "max_tokens": n,
            "temperature": 0,
        },
        _openai,
    ),
    Dialect(
        "/v1/completions",
        lambda model, text, n: {
            "model": model,
            "prompt": text,
            "stream": True,
            "max_tokens": n,
            "temperature": 0,
        },
        _openai,
    ),
    Dialect(
        "/v1/responses",
        lambda model, text, n: {
            "model": model,
            "input": text,
            "stream": True,
            "max_output_tokens": n,
            "temperature": 0,
        },
        _events,
    ),
    Dialect(
        "/v1/messages",
        lambda model, text, n: {
            "model": model,
            "messages": _chat(text),
            "stream": True,
            "max_tokens": n,
            "temperature": 0,
        },
        _events,
    ),
)


async def follow(
    session: aiohttp.ClientSession,
    dialect: Dialect,
    body: Json,
    begun: asyncio.Event | None = None,
) -> Outcome:
    """Reads one stream to its end; `begun` is set with its first line."""
    count = 0
    async with session.post(dialect.path, json=body) as response:
        if response.status != 200:
            text = await response.text()
            return Outcome(response.status, StreamEnd(FAILED, text), 0, time.monotonic())
        end: StreamEnd | None = None
        try:
            async for data in response.content:
                if not (line := data.decode().strip()):
                    continue
                count += 1
                if begun:
                    begun.set()
                end = dialect.judge(line) or end
        except aiohttp.ClientError as error:
            end = end or StreamEnd(CUT, repr(error))
        end = end or StreamEnd(CUT, "the stream ended without a word")
        return Outcome(200, end, count, time.monotonic())
