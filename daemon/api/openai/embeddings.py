"""How OpenAI's dialect reads and words /v1/embeddings (CONTRACT 2.4)."""

from __future__ import annotations

from base64 import b64encode

from aiohttp import web

from ...errors import BadRequest, NotFound
from .. import embedding
from ..body import read
from ..embedding import EmbeddingTexts, Vectors
from ..json_response import json_response
from ..state import APP_STATE
from ..warning_header import note
from . import wire


async def embeddings(request: web.Request) -> web.Response:
    """POST /v1/embeddings"""
    body = await read(request, wire.EmbeddingCreateRequest, if_empty="EOF")
    if not body.input:
        raise BadRequest("invalid input")
    if not body.model:
        raise NotFound("model '' not found")
    state, name = request.app[APP_STATE], body.model
    info = await state.model_index.find(name, f'model "{name}" not found, try pulling it first')
    texts = EmbeddingTexts(info, tuple(body.input), {}, truncate=True, keep_alive_s=None)
    result = await embedding.embed(state, texts)
    note(request, result.warnings)
    vectors = embedding.normalise(result.vectors, body.dimensions)
    data = [
        {"object": "embedding", "embedding": vector, "index": index}
        for index, vector in enumerate(_encode(vectors, body.encoding_format))
    ]
    usage = {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens}
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})


def _encode(vectors: Vectors, encoding: str) -> list[object]:
    """Each vector as a list of floats, or as base64 of little-endian float32."""
    if encoding == "float":
        return list(vectors.tolist())
    return [b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
