"""How Anthropic's dialect reads /v1/messages and count_tokens (CONTRACT 3)."""

from __future__ import annotations

import logging
import time

from aiohttp import web

from ...chat.conversation import REQUIRED, Conversation, Tool
from ...errors import BadRequest, Unsupported
from ...options import Options
from ...runners.model_info import ModelInfo
from ..body import read
from ..completion import Completion, Rendered, collect, complete
from ..json_response import json_response
from ..request import answer_schema, build_conversation, check_capabilities, refuse_images
from ..state import APP_STATE
from ..streaming import respond, sse
from ..truncation import TruncationNotice
from ..warning_header import watch
from .answer import MessageWording
from .errors import ERRORS
from .history import has_images, read_messages
from .wire import CountRequest, InputTool, MessagesRequest

EVENTS = sse(event_field="type")
EMPTY_SCHEMA = {"type": "object", "properties": {}}
EFFORTS = {"low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "high"}
THINKING = {"enabled": True, "disabled": False}  # by `thinking.type`

log = logging.getLogger(__name__)


async def messages(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages"""
    start_ns = time.monotonic_ns()
    body = await read(request, MessagesRequest, if_empty="EOF")
    if body.model and body.max_tokens <= 0:
        raise BadRequest("max_tokens is required and must be positive")
    info = await _find(request, body)
    completion = Completion(
        info=info,
        prompt=_conversation(info, body),
        options=Options.merge(info.model.params, _options(body)),
        start_ns=start_ns,
        schema=_schema(body),
    )
    wording = MessageWording(
        body.model, body.stop_sequences, not body.tool_choice.disable_parallel_tool_use
    )
    notice = TruncationNotice()
    events = notice.watch(watch(request, complete(request.app[APP_STATE], completion)))
    if body.stream:
        return await respond(request, wording.lines(events), EVENTS, ERRORS, notice.headers)
    return json_response(wording.whole(await collect(events)), notice.headers())


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages/count_tokens: how long the prompt is; nothing is generated."""
    start_ns = time.monotonic_ns()
    body = await read(request, CountRequest, if_empty="EOF")
    info = await _find(request, body)
    completion = Completion(
        info=info,
        prompt=_conversation(info, body),
        options=Options.merge(info.model.params),
        start_ns=start_ns,
        render_only=True,
    )
    answer = await collect(watch(request, complete(request.app[APP_STATE], completion)))
    tokens = answer.end.prompt_tokens if isinstance(answer.end, Rendered) else 0
    return json_response({"input_tokens": tokens})


async def _find(request: web.Request, body: CountRequest) -> ModelInfo:
    """The model of a request that has all that it must have. Raises BadRequest and NotFound."""
    if not body.model:
        raise BadRequest("model is required")
    if not body.messages:
        raise BadRequest("messages is required")
    not_found = f"model '{body.model}' not found"
    return await request.app[APP_STATE].model_index.find(body.model, not_found)


def _conversation(info: ModelInfo, body: CountRequest) -> Conversation:
    tools = _tools(body)
    check_capabilities(info, body.model, "chat", think=None, tools=bool(tools))
    refuse_images(has_images(body.messages))
    return build_conversation(
        info,
        read_messages(body.system, body.messages),
        think=_think(info, body),
        tools=tools,
        tool_choice=_choice(body, tools),
    )


def _think(info: ModelInfo, body: CountRequest) -> bool | str | None:
    """None: the model decides. A model that cannot think is not asked to (CONTRACT 3)."""
    think = THINKING.get(body.thinking.type, EFFORTS.get(body.output_config.effort))
    return think if not think or info.can("thinking") else None


def _tools(body: CountRequest) -> tuple[Tool, ...]:
    """The tools that the model may call.

    A tool that Anthropic's servers would run is left out if there are others, because agents
    offer it always. Raises Unsupported if there is none besides.
    """
    if body.tool_choice.type == "none":
        return ()
    known = [tool for tool in body.tools if tool.type == "custom"]
    for tool in body.tools:
        if tool.type != "custom":
            text = f'the tool type "{tool.type}" is not supported'
            if not known:
                raise Unsupported(f"{text}; define a tool with an input_schema and run it yourself")
            log.info("%s; the tool is left out", text)
    return tuple(map(_tool, known))


def _tool(tool: InputTool) -> Tool:
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or EMPTY_SCHEMA
    return Tool({"type": "function", "function": function})


def _choice(body: CountRequest, tools: tuple[Tool, ...]) -> str:
    """The tool choice of the conversation. Raises BadRequest for a tool that is not offered."""
    choice = body.tool_choice
    if choice.type in ("auto", "none"):
        return ""
    if not tools:
        raise BadRequest(f'tool_choice "{choice.type}" needs tools')
    if choice.type == "any":
        return REQUIRED
    if choice.name not in [tool.name for tool in body.tools if tool.type == "custom"]:
        raise BadRequest(f'tool_choice names "{choice.name}", which is not among the tools')
    return choice.name


def _options(body: MessagesRequest) -> dict[str, object]:
    """Only what the request sets; null means "not set" to `Options.merge`."""
    return {
        "num_predict": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": [text for text in body.stop_sequences if text] or None,
    }


def _schema(body: MessagesRequest) -> str:
    answer = body.output_config.format
    return answer_schema(answer.schema_) if answer and answer.type == "json_schema" else ""
