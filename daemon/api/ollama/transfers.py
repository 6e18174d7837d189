"""How Ollama's dialect answers pull and push (CONTRACT 1.16 and 1.17)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict

from aiohttp import web

from ....models.errors import ModelError
from ....models.name import Name
from ....models.sources.progress import Steps
from ....models.sources.reference import RemoteReference
from ....models.sources.registry import Network
from ....models.store import Store
from ...errors import BadRequest, OutriderError
from ..body import read
from ..json_response import json_response
from ..state import APP_STATE
from ..streaming import NDJSON, Lines, respond
from . import wire
from .errors import ERRORS

NETWORK = web.AppKey("network", Network)


async def pull(request: web.Request) -> web.StreamResponse:
    """POST /api/pull"""
    body = await read(request, wire.PullRequest)
    reference = RemoteReference.parse(body.target, insecure=body.insecure)
    store = request.app[APP_STATE].model_index.store
    lines = report(store, reference, request.app[NETWORK])
    return await send_progress(request, lines, stream=body.stream)


async def push(request: web.Request) -> web.StreamResponse:
    """POST /api/push"""
    body = await read(request, wire.PullRequest)
    if not body.target:
        raise BadRequest("model is required")
    reference = RemoteReference.parse(body.target, insecure=body.insecure)
    store = request.app[APP_STATE].model_index.store
    from ....models.sources.push import push as send

    lines = _word(send(store, reference, request.app[NETWORK]))
    return await send_progress(request, lines, stream=body.stream)


async def send_progress(request: web.Request, lines: Lines, *, stream: bool) -> web.StreamResponse:
    """Reports of progress: all of them as they come, or the last one alone."""
    if stream:
        return await respond(request, lines, NDJSON, ERRORS)
    async with aclosing(lines):
        *_, last = [line async for line in lines]
    return json_response(last)


def report(store: Store, model: RemoteReference | Name, network: Network | None = None) -> Lines:
    """The lines of a pull; with a `network` of its own it shares no download of this process."""
    reference = RemoteReference(model) if isinstance(model, Name) else model
    from ....models.sources.pull import pull as fetch  # with all kinds of sources

    return _word(fetch(store, reference, network or Network()))


async def _word(steps: Steps) -> Lines:
    """Progress as JSON objects without what is not known; raises OutriderError."""
    try:
        async with aclosing(steps):
            async for progress in steps:
                yield {key: value for key, value in asdict(progress).items() if value is not None}
    except ModelError as error:
        raise OutriderError(str(error)) from error
