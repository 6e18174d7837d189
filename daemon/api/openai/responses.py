"""How OpenAI's dialect reads /v1/responses (CONTRACT 2.6)."""

from __future__ import annotations

import dataclasses
import secrets
import time

import msgspec
from aiohttp import web

from ...chat.conversation import Conversation
from ...errors import BadRequest, Unsupported
from ...options import Options
from ...runners.model_info import ModelInfo
from ..body import read
from ..completion import Completion, collect, complete
from ..request import answer_schema, build_conversation, missing_capability
from ..state import APP_STATE
from ..streaming import Line, respond, sse
from .response_errors import RESPONSE_ERRORS
from .response_items import read_items
from .response_tools import ToolOffer, read_tools
from .responses_answer import ResponseStream, ResponseWording
from .responses_wire import ResponsesRequest

EVENTS = sse(event_field="type")
DEFAULT_TEMPERATURE = 1.0  # sent whatever the model's own is (CONTRACT 2.6)
EFFORTS: dict[str, bool | str | None] = {
    "": None,
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}  # CONTRACT 2.2
EFFORT_NAMES = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'


async def create(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses"""
    start_ns = time.monotonic_ns()
    body = await read(request, ResponsesRequest, if_empty="EOF")
    _refuse_state(body)
    info = await _find(request, body)
    offer = read_tools(body.tools, body.tool_choice)
    completion = Completion(
        info=info,
        prompt=_conversation(info, body, offer),
        options=Options.merge(info.model.params, _options(body)),
        start_ns=start_ns,
        schema=_schema(body),
    )
    id_ = f"resp_{secrets.token_hex(12)}"
    wording = ResponseWording(id_, int(time.time()), _echo(body), offer, body.parallel_tool_calls)
    events = complete(request.app[APP_STATE], completion)
    if body.stream:
        stream = ResponseStream(wording)
        errors = dataclasses.replace(RESPONSE_ERRORS, body=stream.failed)
        return await respond(request, stream.lines(events), EVENTS, errors)
    answer = wording.whole(await collect(events))
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _refuse_state(body: ResponsesRequest) -> None:
    """Raises Unsupported for what needs responses that are kept; none is."""
    if body.previous_response_id:
        raise Unsupported(
            "previous_response_id is not supported, because responses are not stored; "
            "send the whole conversation as input"
        )
    if body.conversation:
        raise Unsupported("conversation is not supported; send the whole conversation as input")
    if body.background:
        raise Unsupported("background is not supported; leave it out, and use stream")
    if body.prompt:
        raise Unsupported("prompt is not supported; send its text as instructions and input")


async def _find(request: web.Request, body: ResponsesRequest) -> ModelInfo:
    """The model of a request that has all that it must have. Raises BadRequest and NotFound."""
    if not body.model:
        raise BadRequest("model is required")
    if body.input is None or not (body.input or body.instructions):
        raise BadRequest("input is required")
    not_found = f"model '{body.model}' not found"
    return await request.app[APP_STATE].model_index.find(body.model, not_found)


def _conversation(info: ModelInfo, body: ResponsesRequest, offer: ToolOffer) -> Conversation:
    think = _think(body)
    missing = missing_capability(info, think=think, tools=bool(offer.tools))
    if missing == "tools":
        raise BadRequest(f"{info.model.name.full} does not support tools")
    if missing:
        lacking = "chat" if missing == "completion" else missing
        raise BadRequest(f'"{body.model}" does not support {lacking}')
    messages = read_items(body.instructions or "", body.input or ())
    tools = tuple(offered.tool for offered in offer.tools)
    conversation = build_conversation(info, messages, think=think, tools=tools)
    return msgspec.structs.replace(conversation, tool_choice=offer.choice)


def _think(body: ResponsesRequest) -> bool | str | None:
    effort = body.reasoning.effort if body.reasoning else ""
    if effort not in EFFORTS:
        raise BadRequest(f'invalid reasoning value: "{effort}" (must be {EFFORT_NAMES})')
    return EFFORTS[effort]


def _options(body: ResponsesRequest) -> dict[str, object]:
    temperature = DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
    return {
        "temperature": temperature,
        "top_p": body.top_p,
        "num_predict": body.max_output_tokens,
    }


def _schema(body: ResponsesRequest) -> str:
    answer = body.text.format if body.text else None
    if answer and answer.type == "json_object":
        return answer_schema("json")
    return answer_schema(answer.schema_ or {}) if answer and answer.type == "json_schema" else ""


def _echo(body: ResponsesRequest) -> Line:
    """The fields of a response that repeat the request, with OpenAI's defaults."""
    return {
        "model": body.model,
        "previous_response_id": None,
        "instructions": body.instructions,
        "tools": body.tools,
        "tool_choice": body.tool_choice,
        "truncation": body.truncation,
        "parallel_tool_calls": body.parallel_tool_calls,
        "text": body.text.echo() if body.text else {"format": {"type": "text"}},
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "temperature": DEFAULT_TEMPERATURE if body.temperature is None else body.temperature,
        "reasoning": body.reasoning.echo() if body.reasoning else None,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": body.metadata,
        "safety_identifier": None,
        "prompt_cache_key": None,
    }
