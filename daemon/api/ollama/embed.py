"""How Ollama's dialect reads and words /api/embed and /api/embeddings (CONTRACT 1.10 and 1.11)."""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from ...errors import BadRequest, NotFound, RunnerError
from ...options import Options
from ...runners.model_info import ModelInfo
from .. import embedding
from ..body import read
from ..embedding import EmbeddingResult, EmbeddingTexts
from ..state import APP_STATE
from ..warning_header import note
from . import wire


async def embed(request: web.Request) -> web.Response:
    """POST /api/embed"""
    start_ns = time.monotonic_ns()
    body = await read(request, wire.EmbedRequest)
    if not body.model:
        raise NotFound("model '' not found")
    info = await _find(request, body.model)
    texts = _texts(info, body, tuple(body.input), truncate=body.truncate)
    answer = await _embed(request, texts)
    if not body.input:
        return _json({"model": body.model, "embeddings": []})
    return _json(
        {
            "model": body.model,
            "embeddings": answer.normalised(body.dimensions),
            "total_duration": time.monotonic_ns() - start_ns,
            "load_duration": answer.load_ns,
            "prompt_eval_count": answer.prompt_tokens,
        }
    )


async def embeddings(request: web.Request) -> web.Response:
    """POST /api/embeddings; a text that is refused has status 500 here."""
    body = await read(request, wire.EmbeddingsRequest)
    if not body.model:
        raise BadRequest("model is required")
    info = await _find(request, body.model)
    texts = _texts(info, body, (body.prompt,) if body.prompt else (), truncate=False)
    try:
        answer = await _embed(request, texts)
    except BadRequest as error:
        raise RunnerError(str(error)) from None
    return _json({"embedding": answer.pooled()})


async def _find(request: web.Request, model: str) -> ModelInfo:
    not_found = f'model "{model}" not found, try pulling it first'
    return await request.app[APP_STATE].model_index.find(model, not_found)


def _texts(
    info: ModelInfo, body: wire.RunFields, texts: tuple[str, ...], *, truncate: bool
) -> EmbeddingTexts:
    """Raises BadRequest for options with which no model can run."""
    options = Options.merge(info.model.params, body.options)
    return EmbeddingTexts(info, texts, options, truncate, body.keep_alive)


async def _embed(request: web.Request, texts: EmbeddingTexts) -> EmbeddingResult:
    result = await embedding.embed(request.app[APP_STATE], texts)
    note(request, result.warnings)
    return result


def _json(body: dict[str, object]) -> web.Response:
    """Encoded by msgspec: the json module is slow for the many floats of vectors."""
    data = msgspec.json.encode(body)
    return web.Response(body=data, content_type="application/json", charset="utf-8")
