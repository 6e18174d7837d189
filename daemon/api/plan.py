"""How is /api/plan read and answered: what would a model take here, or on another machine?

Nothing is loaded, and of the weights only the headers are read. Not in Ollama.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from aiohttp import web
from pydantic import BeforeValidator, Field

from ..byte_size import parse_bytes
from ..config import KVType, Settings
from ..errors import BadRequest, DoesNotFit, NotFound
from ..options import Options
from ..runners.machine import Gpu, Machine
from ..runners.memory_table import describe_plan
from ..runners.model_info import ModelInfo
from ..runners.plan import plan_embedding, plan_load
from .body import read
from .json_response import json_response
from .state import APP_STATE, AppState
from .streaming import Line
from .wire_model import JsonObject, WireModel

OFF = "off"  # as a drafter: none
MAX_GPUS = 16  # llama_max_devices()
NO_DRAFTER = "{} is no GGUF file that can be read; name a drafter's"
FLASH_NEEDED = "kv_cache_type {} needs flash attention, which FLASH_ATTENTION turns off"


def _bytes(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


Bytes = Annotated[
    int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(ge=0, le=1 << 60)
]


class PlanRequest(WireModel):
    model: str = ""
    name: str = ""  # the old spelling of `model`
    options: JsonObject = Field(default_factory=dict)
    slots: Annotated[int, Field(ge=0, le=64)] = 0  # 0: as the settings say
    kv_cache_type: KVType | None = None
    draft: str = ""  # path of a drafter on the daemon's machine, "off", or "" for the model's own
    # Of each GPU of the machine to plan for; None: this machine.
    memory: Annotated[list[Bytes], Field(max_length=MAX_GPUS)] | None = None


async def plan(request: web.Request) -> web.Response:
    """POST /api/plan"""
    body = await read(request, PlanRequest)
    name = body.model or body.name
    if not name:
        raise BadRequest("model is required")
    state = request.app[APP_STATE]
    info = await state.model_index.find(name, f"model '{name}' not found")
    return json_response({"model": info.model.name.short, **await _describe(state, info, body)})


async def describe_here(state: AppState, info: ModelInfo) -> Line:
    """How a model would be loaded now for a request that wishes nothing, or why it cannot be."""
    try:
        return await _describe(state, info, PlanRequest())
    except DoesNotFit as error:
        return {"refusal": str(error)}


async def _describe(state: AppState, info: ModelInfo, body: PlanRequest) -> Line:
    settings = _settings(state.settings, body)
    machine = await state.pool.read_empty_machine()
    machine = machine if body.memory is None else _with_gpus(machine, body.memory)
    options = Options.merge(info.model.params, body.options)
    info = _with_drafter(state, info, body.draft)
    make_plan = plan_load if info.can("completion") else plan_embedding
    estimate = state.corrections.estimate(info.header.architecture, machine)
    made = await asyncio.to_thread(make_plan, info, options, settings, machine, estimate=estimate)
    return describe_plan(made, info, machine)


def _settings(settings: Settings, body: PlanRequest) -> Settings:
    """With the wishes of the request. Raises BadRequest."""
    changes: dict[str, object] = {}
    if body.slots:
        changes["num_parallel"] = body.slots
    if body.kv_cache_type:
        if settings.flash_attention is False and body.kv_cache_type.startswith("q"):
            raise BadRequest(FLASH_NEEDED.format(body.kv_cache_type))
        changes["kv_cache_type"] = body.kv_cache_type
    if body.draft:
        changes["draft"] = None if body.draft == OFF else _file(body.draft)
    if body.draft == OFF:
        changes["speculation"] = 0
    return settings.model_copy(update=changes)


def _with_drafter(state: AppState, info: ModelInfo, draft: str) -> ModelInfo:
    """The model as if this were its only drafter; as it is if none is named.

    Raises NotFound and BadRequest.
    """
    if not draft:
        return info
    model = replace(info.model, draft_path=None)
    bare = replace(info, model=model, adjacent_drafter=None, drafter=None)
    if draft == OFF:
        return bare
    if drafter := state.model_index.read_drafter(_file(draft)):
        return replace(bare, drafter=drafter)
    raise BadRequest(NO_DRAFTER.format(draft))


def _file(path: str) -> Path:
    """Raises NotFound."""
    if not Path(path).is_file():
        raise NotFound(f"there is no file {path}; name a drafter's GGUF file")
    return Path(path)


def _with_gpus(machine: Machine, memory: Sequence[int]) -> Machine:
    """A machine with this host and one empty GPU of each size; 0 stands for none."""
    sizes = [size for size in memory if size]
    gpus = (Gpu(f"GPU{i}", "to plan for", size, size) for i, size in enumerate(sizes))
    return replace(machine, gpus=tuple(gpus))
