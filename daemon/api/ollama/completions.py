"""How Ollama's dialect reads /api/generate and /api/chat (CONTRACT 1.2, 1.3 and 1.4)."""

from __future__ import annotations

import time

from aiohttp import web

from ...chat.conversation import Conversation, Message, RawPrompt, ToolCall
from ...errors import BadRequest, NotFound, Unsupported
from ...options import Options
from ...runners.model_info import ModelInfo
from ..completion import Completion
from ..request import answer_schema, build_conversation, missing_capability, refuse_images
from ..state import APP_STATE, AppState
from . import wire
from .answer import AnswerWording, chat_shape, generate_shape, send

MAX_TOP_LOGPROBS = 20  # CONTRACT 1.2


async def generate(request: web.Request) -> web.StreamResponse:
    """POST /api/generate"""
    start_ns = time.monotonic_ns()
    body = await wire.read(request, wire.GenerateRequest)
    state = request.app[APP_STATE]
    _check_logprobs(body)
    if not body.model:
        raise NotFound("model '' not found")
    info = await state.model_index.find(body.model, f"model '{body.model}' not found")
    wording = AnswerWording(body.model, generate_shape, shows_context=not body.raw)
    if not body.prompt and body.keep_alive == 0:
        return await _unload(state, info, wording)
    if body.raw and (body.template or body.system or body.context):
        raise BadRequest("raw mode does not support template, system, or context")
    _check_capabilities(info, body, "generate")
    if body.template:
        raise Unsupported("a template in the request is not supported yet; leave it out")
    refuse_images(bool(body.images))
    prompt = _generate_prompt(info, body) if body.prompt else None
    completion = _completion(info, body, prompt, start_ns)
    return await send(request, state, completion, wording, stream=body.stream)


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /api/chat"""
    start_ns = time.monotonic_ns()
    body = await wire.read(request, wire.ChatRequest)
    state = request.app[APP_STATE]
    _check_logprobs(body)
    if not body.model:
        raise BadRequest("model is required")
    info = await state.model_index.find(body.model, f"model '{body.model}' not found")
    wording = AnswerWording(body.model, chat_shape)
    if not body.messages and body.keep_alive == 0:
        return await _unload(state, info, wording)
    _check_capabilities(info, body, "chat")
    refuse_images(any(message.images for message in body.messages))
    prompt = _chat_prompt(info, body) if body.messages else None
    completion = _completion(info, body, prompt, start_ns)
    return await send(request, state, completion, wording, stream=body.stream)


def _check_logprobs(body: wire.CompletionFields) -> None:
    if not 0 <= body.top_logprobs <= MAX_TOP_LOGPROBS:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


def _check_capabilities(
    info: ModelInfo, body: wire.GenerateRequest | wire.ChatRequest, verb: str
) -> None:
    suffix = body.suffix if isinstance(body, wire.GenerateRequest) else ""
    tools = isinstance(body, wire.ChatRequest) and bool(body.tools)
    missing = missing_capability(info, think=body.think, suffix=suffix, tools=tools)
    if missing in ("insert", "tools"):
        raise BadRequest(f"{info.model.name.full} does not support {missing}")
    if missing:
        lacking = verb if missing == "completion" else missing
        raise BadRequest(f'"{body.model}" does not support {lacking}')


async def _unload(state: AppState, info: ModelInfo, wording: AnswerWording) -> web.StreamResponse:
    await state.pool.unload(str(info.path))
    return web.json_response(wording.ended("unload"))


def _completion(
    info: ModelInfo,
    body: wire.GenerateRequest | wire.ChatRequest,
    prompt: Conversation | RawPrompt | None,
    start_ns: int,
) -> Completion:
    return Completion(
        info=info,
        prompt=prompt,
        options=Options.merge(info.model.params, body.options),
        start_ns=start_ns,
        context=tuple(body.context) if isinstance(body, wire.GenerateRequest) else (),
        schema=answer_schema(body.format) if prompt else "",
        truncate=body.truncate,
        shift=body.shift,
        num_logprobs=body.top_logprobs if body.logprobs else None,
        render_only=body.render_only,
        keep_alive_s=body.keep_alive,
    )


def _generate_prompt(info: ModelInfo, body: wire.GenerateRequest) -> Conversation | RawPrompt:
    if body.raw:
        return RawPrompt(body.prompt)
    return build_conversation(
        info,
        (Message("user", body.prompt),),
        think=body.think,
        system=body.system,
        with_stored=not body.context,
    )


def _chat_prompt(info: ModelInfo, body: wire.ChatRequest) -> Conversation:
    return build_conversation(info, tuple(map(_message, body.messages)), think=body.think)


def _message(message: wire.WireMessage) -> Message:
    return Message(
        role=message.role.lower(),
        content=message.content,
        thinking=message.thinking,
        tool_calls=tuple(
            ToolCall(call.function.name, call.function.arguments, call.id)
            for call in message.tool_calls
        ),
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
    )
