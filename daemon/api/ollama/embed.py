"""Vectors of texts: /api/embed and the older /api/embeddings (CONTRACT 1.10 and 1.11)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from ...errors import BadRequest, NotFound, RunnerError
from ...options import Options
from ...protocol import Embed
from ...runners.model_info import DEFAULT_NUM_CTX, ModelInfo, plan_embedding
from ...runners.pool import RunnerSpec
from ..state import APP_STATE, AppState
from . import wire

SMALLEST_NORM = 1e-12  # so that a vector of zeros stays one

Vectors = NDArray[np.float32]  # a row for each text


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """What the runner said; `load_ns` is how long it took until there was one."""

    vectors: Vectors
    prompt_tokens: int
    load_ns: int


async def embed(request: web.Request) -> web.Response:
    """POST /api/embed"""
    start_ns = time.monotonic_ns()
    body = await wire.read(request, wire.EmbedRequest)
    state = request.app[APP_STATE]
    if not body.model:
        raise NotFound("model '' not found")
    info = await state.model_index.find(body.model, _unknown(body.model))
    answer = await _ask(state, info, body, tuple(body.input), truncate=body.truncate)
    if not body.input:
        return _json({"model": body.model, "embeddings": []})
    return _json(
        {
            "model": body.model,
            "embeddings": shorten(answer.vectors, body.dimensions).tolist(),
            "total_duration": time.monotonic_ns() - start_ns,
            "load_duration": answer.load_ns,
            "prompt_eval_count": answer.prompt_tokens,
        }
    )


async def embeddings(request: web.Request) -> web.Response:
    """POST /api/embeddings; whatever the runner refuses has status 500 here."""
    body = await wire.read(request, wire.EmbeddingsRequest)
    state = request.app[APP_STATE]
    if not body.model:
        raise BadRequest("model is required")
    info = await state.model_index.find(body.model, _unknown(body.model))
    texts = (body.prompt,) if body.prompt else ()
    try:
        answer = await _ask(state, info, body, texts, truncate=False)
    except BadRequest as error:
        raise RunnerError(str(error)) from None
    return _json({"embedding": finite(answer.vectors).reshape(-1).tolist()})


def shorten(vectors: Vectors, dimensions: int) -> Vectors:
    """Each vector with length 1, and with its first `dimensions` only if that is fewer.

    Raises BadRequest.
    """
    vectors = finite(vectors)
    if dimensions > 0:
        vectors = vectors[:, :dimensions]
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    shortened: Vectors = (vectors / np.maximum(norms, SMALLEST_NORM)).astype(np.float32)
    return shortened


def finite(vectors: Vectors) -> Vectors:
    """The same vectors. Raises BadRequest for numbers that JSON does not have."""
    if not np.isfinite(vectors).all():
        raise BadRequest("embedding contains NaN or Inf values")
    return vectors


async def _ask(
    state: AppState,
    info: ModelInfo,
    body: wire.EmbedRequest | wire.EmbeddingsRequest,
    texts: tuple[str, ...],
    *,
    truncate: bool,
) -> EmbeddingResult:
    """Load the model, and embed the texts if there are any."""
    start_ns = time.monotonic_ns()
    default = {"num_ctx": state.settings.context_length or DEFAULT_NUM_CTX}
    options = Options.merge(default, info.model.params, body.options)
    load = plan_embedding(info, options, state.settings)
    spec = RunnerSpec(info.model.name.short, info.model.digest, load)
    async with state.pool.lease(spec, body.keep_alive) as runner:
        load_ns = time.monotonic_ns() - start_ns
        if not texts:
            return EmbeddingResult(np.zeros((0, 0), np.float32), 0, load_ns)
        # The model holds 4 tokens at least; a request may ask for fewer, and then gets fewer.
        num_ctx = min(options.num_ctx, load.num_ctx)
        embedded = await runner.embed(Embed(0, texts, num_ctx, truncate))
    rows = np.frombuffer(embedded.vectors, "<f4").reshape(len(texts), embedded.width)
    return EmbeddingResult(rows, embedded.prompt_tokens, load_ns)


def _unknown(model: str) -> str:
    return f'model "{model}" not found, try pulling it first'


def _json(body: dict[str, object]) -> web.Response:
    """Ten thousands of numbers are common here, so this is not left to the json module."""
    data = msgspec.json.encode(body)
    return web.Response(body=data, content_type="application/json", charset="utf-8")
