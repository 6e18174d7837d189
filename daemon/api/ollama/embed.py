"""How Ollama's dialect reads and words /api/embed and /api/embeddings (CONTRACT 1.10 and 1.11)."""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from ...errors import BadRequest, NotFound, RunnerError
from .. import embedding
from ..embedding import EmbeddingTexts
from ..state import APP_STATE
from . import wire


async def embed(request: web.Request) -> web.Response:
    """POST /api/embed"""
    start_ns = time.monotonic_ns()
    body = await wire.read(request, wire.EmbedRequest)
    state = request.app[APP_STATE]
    if not body.model:
        raise NotFound("model '' not found")
    texts = EmbeddingTexts(
        info=await state.model_index.find(body.model, _unknown(body.model)),
        texts=tuple(body.input),
        options=body.options,
        truncate=body.truncate,
        keep_alive_s=body.keep_alive,
    )
    answer = await embedding.embed(state, texts)
    if not body.input:
        return _json({"model": body.model, "embeddings": []})
    return _json(
        {
            "model": body.model,
            "embeddings": embedding.normalise(answer.vectors, body.dimensions).tolist(),
            "total_duration": time.monotonic_ns() - start_ns,
            "load_duration": answer.load_ns,
            "prompt_eval_count": answer.prompt_tokens,
        }
    )


async def embeddings(request: web.Request) -> web.Response:
    """POST /api/embeddings; what the runner refuses has status 500 here."""
    body = await wire.read(request, wire.EmbeddingsRequest)
    state = request.app[APP_STATE]
    if not body.model:
        raise BadRequest("model is required")
    texts = EmbeddingTexts(
        info=await state.model_index.find(body.model, _unknown(body.model)),
        texts=(body.prompt,) if body.prompt else (),
        options=body.options,
        truncate=False,
        keep_alive_s=body.keep_alive,
    )
    try:
        answer = await embedding.embed(state, texts)
    except BadRequest as error:
        raise RunnerError(str(error)) from None
    return _json({"embedding": embedding.require_finite(answer.vectors).reshape(-1).tolist()})


def _unknown(model: str) -> str:
    return f'model "{model}" not found, try pulling it first'


def _json(body: dict[str, object]) -> web.Response:
    """Encoded by msgspec: the json module is slow for the many floats of vectors."""
    data = msgspec.json.encode(body)
    return web.Response(body=data, content_type="application/json", charset="utf-8")
