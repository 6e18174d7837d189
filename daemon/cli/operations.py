"""What a command has the daemon do about one model: fetch, make, load, stop, answer."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from . import progress
from .answer import AnswerView
from .client import Client, Json, MissingModelError
from .create_plan import CreatePlan
from .session import ChatSession
from .upload import Upload


async def pull(client: Client, model: str, insecure: bool = False) -> None:
    """Fetches the model from its registry, with its progress on stderr."""
    lines = client.stream("/api/pull", {"model": model, "insecure": insecure})
    await progress.follow(lines)


async def create(client: Client, plan: CreatePlan) -> None:
    """Makes the model that a Modelfile asks for, with its progress on stderr."""
    await progress.follow(_creating(client, plan))


async def _creating(client: Client, plan: CreatePlan) -> AsyncGenerator[Json, None]:
    body = dict(plan.body)
    for field, path in plan.files:
        upload = Upload(client, path)
        async with aclosing(upload.steps()) as lines:
            async for line in lines:
                yield line
        body[field] = body.get(field, {}) | {path.name: upload.digest}
    async with aclosing(client.stream("/api/create", body)) as lines:
        async for line in lines:
            yield line


async def ensure(client: Client, model: str, insecure: bool = False) -> None:
    """Fetches the model if the daemon does not have it."""
    try:
        await client.post("/api/show", {"model": model})
    except MissingModelError:
        await pull(client, model, insecure)


async def load(client: Client, chat: ChatSession) -> None:
    """Brings the model into memory, so that the first answer need not wait for that."""
    waiting = f"Loading {chat.model}..." if sys.stderr.isatty() else ""
    keep_alive = {} if chat.keep_alive is None else {"keep_alive": chat.keep_alive}
    body = {"model": chat.model, "options": dict(chat.options), "stream": False, **keep_alive}
    print(waiting, end="", file=sys.stderr, flush=True)
    try:
        await client.post("/api/generate", body)
    finally:
        print(progress.ERASE if waiting else "", end="", file=sys.stderr, flush=True)


async def stop(client: Client, model: str) -> None:
    """Takes the model out of memory: no prompt, kept for no time (CONTRACT 1.2)."""
    await client.post("/api/generate", {"model": model, "keep_alive": 0, "stream": False})


async def ask(client: Client, chat: ChatSession, answer: AnswerView) -> None:
    """Streams the answer to the last message; what came is in `answer` even if this is stopped."""
    try:
        async with aclosing(client.stream("/api/chat", chat.request())) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
    finally:
        answer.finish()
