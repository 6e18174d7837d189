"""How OpenAI's dialect reads /v1/chat/completions (CONTRACT 2.2)."""

from __future__ import annotations

import time

from aiohttp import web

from ...chat.conversation import Message, Tool
from ...errors import BadRequest
from ..body import read
from ..completion import Completion
from ..request import build_conversation, check_capabilities
from ..state import APP_STATE
from . import wire
from .chat_answer import ChatWording
from .choices import send, vary
from .envelope import AnswerEnvelope
from .messages import offered_tools, read_messages
from .parameters import read_options, read_think, response_schema


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions"""
    start_ns = time.monotonic_ns()
    body = await read(request, wire.ChatCompletionRequest, if_empty="EOF")
    if not body.messages:
        raise BadRequest("[] is too short - 'messages'")
    messages = read_messages(body.messages)
    tools, tool_choice = offered_tools(body.tools, body.tool_choice)
    completion = await _completion(request, body, messages, tools, tool_choice, start_ns)
    wording = ChatWording(
        envelope=AnswerEnvelope.start("chatcmpl", body.model),
        shows_logprobs=body.logprobs,
        shows_usage=body.stream_options.include_usage,
        parallel_calls=body.parallel_tool_calls,
    )
    return await send(request, vary(completion, body.n), wording, stream=body.stream)


async def _completion(
    request: web.Request,
    body: wire.ChatCompletionRequest,
    messages: tuple[Message, ...],
    tools: tuple[Tool, ...],
    tool_choice: str,
    start_ns: int,
) -> Completion:
    """Raises BadRequest and NotFound."""
    think, schema = read_think(body), response_schema(body.response_format)
    if not body.model:
        raise BadRequest("model is required")
    not_found = f"model '{body.model}' not found"
    info = await request.app[APP_STATE].model_index.find(body.model, not_found)
    check_capabilities(info, body.model, "chat", think=think, tools=bool(tools))
    return Completion(
        info=info,
        prompt=build_conversation(
            info, messages, think=think, tools=tools, tool_choice=tool_choice
        ),
        options=read_options(info, body),
        start_ns=start_ns,
        schema=schema,
        num_logprobs=body.top_logprobs if body.logprobs else None,
        render_only=body.render_only,
    )
