"""How OpenAI's dialect answers /v1/models (CONTRACT 2.5)."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ....models.errors import ModelNotFound
from ....models.model import StoredModel
from ....models.name import Name
from ...errors import NotFound
from ..json_response import json_response
from ..state import APP_STATE
from ..streaming import Line


async def models(request: web.Request) -> web.Response:
    """GET /v1/models"""
    stored = await asyncio.to_thread(request.app[APP_STATE].model_index.store.list)
    data = [_model(model, model.name.short) for model in stored]
    return json_response({"object": "list", "data": data or None})


async def model(request: web.Request) -> web.Response:
    """GET /v1/models/{id}; an id may hold slashes, escaped or not."""
    text = request.match_info["id"]
    name = Name.parse(text)
    store = request.app[APP_STATE].model_index.store
    try:
        return json_response(_model(await asyncio.to_thread(store.resolve, name), text))
    except ModelNotFound:
        raise NotFound(f"model '{name.short}' not found") from None


def _model(stored: StoredModel, shown: str) -> Line:
    return {
        "id": shown,
        "object": "model",
        "created": int(stored.modified_at.timestamp()),
        "owned_by": stored.name.namespace,
    }
