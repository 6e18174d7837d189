"""How OpenAI's dialect reads /v1/responses (CONTRACT 2.6)."""

from __future__ import annotations

import dataclasses
import secrets
import time

from aiohttp import web

from ...chat.conversation import Conversation
from ...errors import BadRequest, Unsupported
from ...options import Options
from ...runners.model_info import ModelInfo
from ..body import read
from ..completion import Completion, collect, complete
from ..json_response import json_response
from ..request import answer_schema, build_conversation, check_capabilities
from ..state import APP_STATE
from ..streaming import Line, respond, sse
from ..truncation import TruncationNotice
from ..warning_header import watch
from .errors import ERRORS
from .messages import think_of
from .response_items import read_items
from .response_tools import ToolOffer, read_offer
from .responses_answer import ResponseStream, ResponseWording
from .responses_wire import ResponsesRequest

EVENTS = sse(event_field="type")
DEFAULT_TEMPERATURE = 1.0  # sent whatever the model's own is (CONTRACT 2.6)


async def create(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses"""
    start_ns = time.monotonic_ns()
    body = await read(request, ResponsesRequest, if_empty="EOF")
    _refuse_state(body)
    info = await _find(request, body)
    offer = read_offer(body.tools, body.tool_choice)
    completion = Completion(
        info=info,
        prompt=_conversation(info, body, offer),
        options=Options.merge(info.model.params, _options(body)),
        start_ns=start_ns,
        schema=_schema(body),
    )
    id_ = f"resp_{secrets.token_hex(12)}"
    wording = ResponseWording(id_, int(time.time()), _echo(body), offer, body.parallel_tool_calls)
    notice = TruncationNotice()
    events = notice.watch(watch(request, complete(request.app[APP_STATE], completion)))
    if body.stream:
        stream = ResponseStream(wording)
        errors = dataclasses.replace(ERRORS, body=stream.failed)
        return await respond(request, stream.lines(events), EVENTS, errors, notice.headers)
    return json_response(wording.whole(await collect(events)), notice.headers())


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
    think = think_of(body.reasoning.effort) if body.reasoning else None
    check_capabilities(info, body.model, "chat", think=think, tools=bool(offer.tools))
    return build_conversation(
        info,
        read_items(body.instructions or "", body.input or ()),
        think=think,
        tools=tuple(offered.tool for offered in offer.tools),
        tool_choice=offer.choice,
    )


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
