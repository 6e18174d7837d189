"""How Ollama's dialect answers the routes about models: tags, ps, show, copy and delete.

See CONTRACT 1.12, 1.13, 1.14 and 1.15.
"""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from ....models.errors import InvalidName, ModelNotFound
from ....models.model import StoredModel
from ....models.modelfile_writer import render_modelfile, render_parameters
from ....models.name import Name
from ....quant.gguf import Array, Header
from ....quant.types import format_parameters
from ...errors import BadRequest, NotFound
from ...options import Options
from ...protocol import Ready, Stats
from ...runners.loaded_model import LoadedModel
from ...runners.memory_table import describe_loaded
from ...runners.model_info import ModelInfo
from ...runners.reference import NO_DETAILS, parse_reference
from ..body import read
from ..json_response import json_response
from ..plan import describe_here
from ..state import APP_STATE
from ..streaming import Line
from . import wire

API_VERSION = "0.33.0"  # of Ollama; clients enable features by it (CONTRACT 1)
COPILOT = "GitHubCopilotChat/"  # a User-Agent that is shown the name it asked for (CONTRACT 1.14)
FOREVER_S = 100 * 365 * 86400.0  # seconds; shows "forever" as a date far ahead (CONTRACT 1.13)


Stored = list[tuple[StoredModel, ModelInfo | None]]


async def root(_request: web.Request) -> web.Response:
    """GET /"""
    return web.Response(text="Ollama is running")


async def version(_request: web.Request) -> web.Response:
    """GET /api/version"""
    return json_response({"version": API_VERSION})


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics"""
    body, content_type = await request.app[APP_STATE].metrics.render()
    return web.Response(body=body, headers={"Content-Type": content_type})


async def tags(request: web.Request) -> web.Response:
    """GET /api/tags"""
    models = await request.app[APP_STATE].model_index.list()
    return json_response({"models": [_tag(model, info) for model, info in models]})


async def ps(request: web.Request) -> web.Response:
    """GET /api/ps"""
    state = request.app[APP_STATE]
    stored = await state.model_index.list()
    now = datetime.now().astimezone()
    models = [_loaded(model, _stored(model, stored), now) for model in state.pool.loaded_models]
    return json_response({"models": models})


async def show(request: web.Request) -> web.Response:
    """POST /api/show"""
    body = await read(request, wire.ShowRequest)
    text = body.target
    if not text:
        raise BadRequest("model is required")
    state = request.app[APP_STATE]
    short = parse_reference(text, NO_DETAILS).name.short
    index = state.model_index
    info = await index.find(text, f"model '{short}' not found", NO_DETAILS)
    Options.merge(body.options)
    header = await index.read_all(info) if body.verbose else info.header
    shown = _shown(info, header, body)
    if body.verbose:
        shown["plan"] = await describe_here(state, info)
    if projector := await index.read_projectors(info):
        shown["projector_info"] = _model_info(projector)
    if request.headers.get("User-Agent", "").startswith(COPILOT):
        shown["model_info"] |= {"general.basename": text}
    return json_response(shown)


async def copy(request: web.Request) -> web.Response:
    """POST /api/copy"""
    body = await read(request, wire.CopyRequest)
    source = _name(body.source, f'source "{body.source}" is invalid')
    destination = _name(body.destination, f'destination "{body.destination}" is invalid')
    try:
        await asyncio.to_thread(request.app[APP_STATE].model_index.store.copy, source, destination)
    except ModelNotFound:
        raise NotFound(f'model "{body.source}" not found') from None
    return web.Response()


async def delete(request: web.Request) -> web.Response:
    """DELETE /api/delete"""
    body = await read(request, wire.NameRequest)
    text = body.target
    if not text:
        raise BadRequest("model is required")
    name = _name(text, f'name "{text}" is invalid')
    try:
        await asyncio.to_thread(request.app[APP_STATE].model_index.store.delete, name)
    except ModelNotFound:
        raise NotFound(f"model '{text}' not found") from None
    return web.Response()


def _name(text: str, invalid: str) -> Name:
    try:
        return Name.parse(text.strip())
    except InvalidName:
        raise BadRequest(invalid) from None


def _details(model: StoredModel, info: ModelInfo | None) -> Line:
    """The `details` object; the header of the weights fills in for the config."""
    config, header = model.config, info.header if info else None
    family = config.model_family or (header.architecture if header else "")
    size = config.model_type or (format_parameters(header.parameter_count) if header else "")
    return {
        "parent_model": model.parent_model,
        "format": config.model_format or "gguf",
        "family": family,
        "families": list(config.model_families or filter(None, [family])) or None,
        "parameter_size": size,
        "quantization_level": config.file_type or (header.quantisation if header else ""),
        **({"context_length": header.context_length} if header else {}),
        **({"embedding_length": header.embedding_length} if header else {}),
    }


def _tag(model: StoredModel, info: ModelInfo | None) -> Line:
    config = model.config
    remote = {"remote_model": config.remote_model, "remote_host": config.remote_host}
    return {
        "name": model.name.short,
        "model": model.name.short,
        **{key: text for key, text in remote.items() if text},
        "modified_at": model.modified_at.isoformat(),
        "size": model.size_bytes,
        "digest": model.digest,
        "details": _details(model, info),
        **({"capabilities": info.capabilities} if info else {}),
    }


def _stored(loaded: LoadedModel, stored: Stored) -> tuple[StoredModel, ModelInfo | None] | None:
    """The model in the store that is loaded: that of its name, else another of the same weights.

    A model that was created again keeps its runner, and has another digest.
    """
    path = loaded.load.model
    same = [(model, info) for model, info in stored if info and str(info.path) == path]
    named = (pair for pair in same if pair[0].name.short == loaded.spec.name)
    return next(named, same[0] if same else None)


def _loaded(
    loaded: LoadedModel, stored: tuple[StoredModel, ModelInfo | None] | None, now: datetime
) -> Line:
    spec, ready = loaded.spec, loaded.runner.ready
    is_named = stored is not None and stored[0].name.short == spec.name
    expires = now + timedelta(seconds=min(loaded.expires_in_s, FOREVER_S))
    return {
        "name": spec.name,
        "model": spec.name,
        "size": ready.size_bytes,
        "digest": stored[0].digest if stored and is_named else spec.digest,
        "details": _details(*stored) if stored else {},
        "expires_at": expires.isoformat(),
        "size_vram": ready.size_vram_bytes,
        "context_length": loaded.load.num_ctx,
        "memory": describe_loaded(loaded),
        **_speculation(ready, loaded.runner.stats),
    }


def _speculation(ready: Ready, stats: Stats) -> Line:
    """Drafts since the model was loaded; empty if it has no drafter and none was refused."""
    if not (ready.drafters or ready.refusal):
        return {}
    speedup = stats.plain_ns / stats.speculated_ns if stats.speculated_ns else 1.0
    return {
        "speculation": {
            "drafters": list(ready.drafters),
            **({"refusal": ready.refusal} if ready.refusal else {}),
            "drafted": stats.drafted_tokens,
            "accepted": stats.accepted_tokens,
            "mean_length": stats.drafted_tokens / stats.drafts if stats.drafts else 0.0,
            "estimated_speedup": speedup,
        }
    }


def _shown(info: ModelInfo, header: Header, asked: wire.ShowRequest) -> dict[str, Any]:
    model, tensors = info.model, header.tensors
    basename = {"general.basename": model.name.model}
    jinja = header.chat_template or ""
    texts = {
        "license": "\n".join(model.licenses),
        "modelfile": render_modelfile(model),
        "parameters": render_parameters(model.params),
        "template": asked.template or (jinja if info.uses_jinja else model.template or jinja),
        "system": asked.system or model.system,
        "messages": list(model.messages),
        "warnings": list(info.warnings),
        "requires": model.config.requires,
    }
    return {
        **{key: text for key, text in texts.items() if text},
        "details": _details(model, info),
        "model_info": basename | _model_info(header),
        "tensors": [{"name": t.name, "type": t.kind, "shape": list(t.shape)} for t in tensors],
        "capabilities": info.capabilities,
        "modified_at": model.modified_at.isoformat(),
    }


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, Array) else value


def _model_info(header: Header) -> Line:
    """The values of the header; what JSON lacks is null, and a long array."""
    hidden = ("general.name", "tokenizer.chat_template")
    values = {key: _json_value(v) for key, v in header.values.items() if key not in hidden}
    return {**values, "general.parameter_count": header.parameter_count}
