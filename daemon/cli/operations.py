"""Client operations on one model: pull, push, create, load, stop, chat."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from . import progress
from .answer import AnswerView
from .client import Client, DaemonError, Json, MissingModelError
from .create_plan import CreatePlan
from .session import ChatSession
from .upload import Upload

KEY_HELP = (
    "You need to be signed in to push models, under a name that you may write to: add the key in "
    "~/.ollama/id_ed25519.pub to your account at the registry, then push again."
)


async def pull(client: Client, model: str, insecure: bool = False) -> None:
    """Fetches the model from its registry, with its progress on stderr."""
    await progress.follow(client.stream("/api/pull", {"model": model, "insecure": insecure}))


async def push(client: Client, model: str, insecure: bool = False) -> None:
    """Sends the model to its registry, with its progress on stderr."""
    try:
        await progress.follow(client.stream("/api/push", {"model": model, "insecure": insecure}))
    except DaemonError as error:
        if "unauthorized" not in str(error):
            raise
        raise DaemonError(f"{error}\n{KEY_HELP}") from None


async def create(client: Client, plan: CreatePlan) -> None:
    """Uploads the files of a plan and creates the model, with progress on stderr."""
    await progress.follow(_create_lines(client, plan))


async def _create_lines(client: Client, plan: CreatePlan) -> AsyncGenerator[Json, None]:
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


async def ensure(client: Client, model: str, insecure: bool = False) -> Json:
    """The answer of POST /api/show; the model is fetched if the daemon does not have it."""
    try:
        return await client.post("/api/show", {"model": model})
    except MissingModelError:
        await pull(client, model, insecure)
        return await client.post("/api/show", {"model": model})


def capabilities(shown: Json) -> tuple[str, ...] | None:
    """What a model can do, by the answer of POST /api/show; None if it does not say."""
    names = shown.get("capabilities")
    return None if names is None else tuple(map(str, names))


async def save(client: Client, model: str, session: ChatSession) -> None:
    """Creates a model from the session: its model, with what was set and said (CONTRACT 10.3)."""
    await progress.follow(client.stream("/api/create", session.as_model(model)))


async def embed(client: Client, body: Json) -> list[float]:
    """The vector of one text (CONTRACT 1.10)."""
    vectors = (await client.post("/api/embed", body)).get("embeddings")
    if not vectors:
        raise DaemonError("the daemon has sent no vector")
    return list(vectors[0])


async def load(client: Client, session: ChatSession) -> None:
    """Loads the model into memory, so that the first answer does not wait for it."""
    notice = f"Loading {session.model}..." if sys.stderr.isatty() else ""
    keep_alive = {} if session.keep_alive is None else {"keep_alive": session.keep_alive}
    model, options = session.model, dict(session.options)
    body = {"model": model, "options": options, "stream": False, **keep_alive}
    print(notice, end="", file=sys.stderr, flush=True)
    try:
        await client.post("/api/generate", body)
    finally:
        print(progress.ERASE if notice else "", end="", file=sys.stderr, flush=True)


async def stop(client: Client, model: str) -> None:
    """Unloads the model: no prompt and a keep_alive of 0 (CONTRACT 1.2)."""
    await client.post("/api/generate", {"model": model, "keep_alive": 0, "stream": False})


async def chat(client: Client, session: ChatSession, answer: AnswerView) -> None:
    """Streams the answer to the last message into `answer`, which keeps it if this is cancelled."""
    try:
        async with aclosing(client.stream("/api/chat", session.request())) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
    finally:
        answer.finish()
