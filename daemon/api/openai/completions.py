"""How OpenAI's dialect reads /v1/completions (CONTRACT 2.3)."""

from __future__ import annotations

import time

from aiohttp import web

from ...chat.conversation import Infill, Message, Prompt
from ...errors import BadRequest, NotFound
from ...runners.model_info import ModelInfo
from ..body import read
from ..completion import Completion
from ..request import build_conversation, check_capabilities
from ..state import APP_STATE
from . import wire
from .choices import send, vary
from .envelope import AnswerEnvelope
from .parameters import read_options
from .text_answer import TextWording


async def completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions"""
    start_ns = time.monotonic_ns()
    body = await read(request, wire.TextCompletionRequest, if_empty="EOF")
    if body.echo and body.logprobs is not None:
        raise BadRequest("echo with logprobs is not supported: a prompt has no logprobs")
    if not body.model:
        raise NotFound("model '' not found")
    not_found = f"model '{body.model}' not found"
    info = await request.app[APP_STATE].model_index.find(body.model, not_found)
    check_capabilities(info, body.model, "generate", think=None, suffix=body.suffix)
    options = read_options(info, body)
    runs = [
        run
        for text in body.prompt
        for run in vary(
            Completion(
                info=info,
                prompt=_prompt(info, text, body.suffix),
                options=options,
                start_ns=start_ns,
                num_logprobs=body.logprobs,
                render_only=body.render_only,
            ),
            body.n,
        )
    ]
    wording = TextWording(
        envelope=AnswerEnvelope.start("cmpl", body.model),
        choices_per_prompt=body.n,
        echoes=[text for text in body.prompt for _ in range(body.n)] if body.echo else (),
        shows_usage=body.stream_options.include_usage,
    )
    return await send(request, runs, wording, stream=body.stream)


def _prompt(info: ModelInfo, text: str, suffix: str) -> Prompt | None:
    """None for an empty prompt, with which the model is only loaded."""
    if suffix:
        return Infill(text, suffix)
    if not text:
        return None
    return build_conversation(info, (Message("user", text),), think=None)
