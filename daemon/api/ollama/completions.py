"""How Ollama's dialect reads /api/generate and /api/chat (CONTRACT 1.2, 1.3 and 1.4)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from aiohttp import web

from ...chat.choose import format_of
from ...chat.conversation import Infill, Message, Prompt, RawPrompt, ToolCall
from ...chat.format import ChatFormat, UnreadableTemplate
from ...errors import BadRequest, NotFound, TemplateFailed
from ...options import Options
from ...runners.model_info import ModelInfo
from ..body import read
from ..completion import Completion, collect, complete
from ..json_response import json_response
from ..request import (
    answer_schema,
    build_conversation,
    check_capabilities,
    read_tools,
    refuse_images,
)
from ..state import APP_STATE
from ..streaming import NDJSON, respond
from ..warning_header import watch
from . import wire
from .answer import AnswerWording, chat_shape, generate_shape
from .errors import ERRORS

MAX_TOP_LOGPROBS = 20  # CONTRACT 1.2


async def generate(request: web.Request) -> web.StreamResponse:
    """POST /api/generate"""
    start_ns = time.monotonic_ns()
    body = await read(request, wire.GenerateRequest)
    _check_logprobs(body)
    if not body.model:
        raise NotFound("model '' not found")
    info = await _find(request, body)
    wording = AnswerWording(body.model, generate_shape, shows_context=not body.raw)
    if not body.prompt and body.keep_alive == 0:
        return await _unload(request, info, wording)
    if body.raw and (body.template or body.system or body.context):
        raise BadRequest("raw mode does not support template, system, or context")
    check_capabilities(info, body.model, "generate", think=body.think, suffix=body.suffix)
    refuse_images(bool(body.images))
    prompt = _generate_prompt(info, body) if body.prompt else None
    completion = _completion(info, body, prompt, start_ns, context=tuple(body.context))
    if body.template and prompt:
        completion = replace(completion, format=await _format_of(body.template))
    return await _send(request, completion, wording, stream=body.stream)


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /api/chat"""
    start_ns = time.monotonic_ns()
    body = await read(request, wire.ChatRequest)
    _check_logprobs(body)
    if not body.model:
        raise BadRequest("model is required")
    info = await _find(request, body)
    wording = AnswerWording(body.model, chat_shape)
    if not body.messages and body.keep_alive == 0:
        return await _unload(request, info, wording)
    check_capabilities(info, body.model, "chat", think=body.think, tools=bool(body.tools))
    refuse_images(any(message.images for message in body.messages))
    messages = tuple(map(_message, body.messages))
    tools = read_tools(body.tools)
    prompt = None
    if messages:
        prompt = build_conversation(info, messages, think=body.think, tools=tools)
    completion = _completion(info, body, prompt, start_ns)
    return await _send(request, completion, wording, stream=body.stream)


async def _find(request: web.Request, body: wire.CompletionFields) -> ModelInfo:
    not_found = f"model '{body.model}' not found"
    return await request.app[APP_STATE].model_index.find(body.model, not_found)


def _check_logprobs(body: wire.CompletionFields) -> None:
    if not 0 <= body.top_logprobs <= MAX_TOP_LOGPROBS:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


async def _unload(
    request: web.Request, info: ModelInfo, wording: AnswerWording
) -> web.StreamResponse:
    await request.app[APP_STATE].pool.unload(str(info.path))
    return json_response(wording.ended("unload"))


def _generate_prompt(info: ModelInfo, body: wire.GenerateRequest) -> Prompt:
    if body.raw:
        return RawPrompt(body.prompt)
    if body.suffix:
        return Infill(body.prompt, body.suffix, body.think)
    user = (Message("user", body.prompt),)
    with_stored = not body.context
    return build_conversation(
        info, user, think=body.think, system=body.system, with_stored=with_stored
    )


async def _format_of(template: str) -> ChatFormat:
    """The format of a request's template, parsed on a thread, since a long one takes seconds.

    Raises TemplateFailed with the parser's text (CONTRACT 1.2).
    """
    try:
        return await asyncio.to_thread(format_of, template)
    except UnreadableTemplate as error:
        raise TemplateFailed(f"the template cannot be read: {error}") from error


def _message(message: wire.WireMessage) -> Message:
    calls = ((call.id, call.function) for call in message.tool_calls)
    return Message(
        role=message.role.lower(),
        content=message.content,
        thinking=message.thinking,
        tool_calls=tuple(ToolCall(f.name, f.arguments, call_id) for call_id, f in calls),
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
    )


def _completion(
    info: ModelInfo,
    body: wire.CompletionFields,
    prompt: Prompt | None,
    start_ns: int,
    context: tuple[int, ...] = (),
) -> Completion:
    return Completion(
        info=info,
        prompt=prompt,
        options=Options.merge(info.model.params, body.options),
        start_ns=start_ns,
        context=context,
        schema=answer_schema(body.format) if prompt else "",
        truncate=body.truncate,
        shift=body.shift,
        num_logprobs=body.top_logprobs if body.logprobs else None,
        render_only=body.render_only,
        keep_alive_s=body.keep_alive,
    )


async def _send(
    request: web.Request, completion: Completion, wording: AnswerWording, *, stream: bool
) -> web.StreamResponse:
    """Answer line by line, or with one object; without a new text there is only one object."""
    events = watch(request, complete(request.app[APP_STATE], completion))
    if not stream or completion.prompt is None or completion.render_only:
        return json_response(wording.whole(await collect(events)))
    return await respond(request, wording.lines(events), NDJSON, ERRORS)
