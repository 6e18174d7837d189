"""How OpenAI's dialect reads and words /v1/embeddings (CONTRACT 2.4)."""

from __future__ import annotations

from aiohttp import web

from ...errors import BadRequest, NotFound
from ...options import Options
from .. import embedding
from ..body import read
from ..embedding import EmbeddingTexts
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
    options = Options.merge(info.model.params, {})
    texts = EmbeddingTexts(info, tuple(body.input), options, truncate=True, keep_alive_s=None)
    result = await embedding.embed(state, texts)
    note(request, result.warnings)
    encode = result.normalised if body.encoding_format == "float" else result.encoded
    data = [
        {"object": "embedding", "embedding": vector, "index": index}
        for index, vector in enumerate(encode(body.dimensions))
    ]
    usage = {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens}
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})
