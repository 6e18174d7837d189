"""How /v1/systemone is read and answered (CONTRACT 2.8).

Each question is a completion of one token; what counts is the probability of each option's code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web

from ...errors import BadRequest
from ...options import Options
from ...protocol import Done
from ...runners.model_info import ModelInfo
from ..body import read
from ..completion import Completion, Finished, collect, complete
from ..json_response import json_response
from ..request import check_capabilities
from ..state import APP_STATE
from ..warning_header import watch
from .answers import word_answer
from .prompt import INSTRUCTIONS, ask
from .questions import Question, read_content, read_questions
from .wire import DecisionRequest

MAX_BODY_BYTES = 64 << 10  # of a request (CONTRACT 2.8)
TRAINED = "decision"  # the capability of models that were trained on these prompts


async def systemone(request: web.Request) -> web.Response:
    """POST /v1/systemone"""
    start_ns = time.monotonic_ns()
    body = await read(request, DecisionRequest, max_bytes=MAX_BODY_BYTES)
    questions = _check(body)
    state = read_content(body.state, "state must be a nonempty string, object, or array")
    not_found = f"model '{body.model}' not found"
    info = await request.app[APP_STATE].model_index.find(body.model, not_found)
    check_capabilities(info, body.model, TRAINED, think=None)
    # The first token alone is sampled, and the scores are those before any option.
    options = Options.merge(info.model.params, {"temperature": 0, "num_predict": 1})
    completions = [
        Completion(
            info=info,
            prompt=prompt,
            options=options,
            start_ns=start_ns,
            truncate=False,
            shift=False,
            scored=question.codes,
            keep_alive_s=body.keep_alive,
        )
        for question, prompt in zip(questions, ask(_system(info), state, questions), strict=True)
    ]
    dones = await _run(request, completions)
    return json_response(
        {
            "model": body.model,
            "answers": {
                q.name: word_answer(q, d.scores) for q, d in zip(questions, dones, strict=True)
            },
            "usage": {
                "input_tokens": sum(done.prompt_tokens for done in dones),
                "output_tokens": sum(done.eval_tokens for done in dones),
            },
        }
    )


def _check(body: DecisionRequest) -> list[Question]:
    """The questions. Raises BadRequest for what needs no model to be refused."""
    if not body.model.strip():
        raise BadRequest("model is required")
    if body.videos:
        raise BadRequest("video inputs are not supported")
    if body.images:
        raise BadRequest("this decision model does not support images")
    return read_questions(body.questions)


def _system(info: ModelInfo) -> str:
    """The system text of a model that was trained for decisions; for others our own, too."""
    if TRAINED in info.model.config.capabilities:
        return info.model.system
    return "\n\n".join(text for text in (info.model.system, INSTRUCTIONS) if text)


async def _run(request: web.Request, completions: Sequence[Completion]) -> list[Done]:
    """How all of them ended, side by side. The first error ends the others."""
    tasks = [asyncio.create_task(_finish(request, completion)) for completion in completions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _finish(request: web.Request, completion: Completion) -> Done:
    answer = await collect(watch(request, complete(request.app[APP_STATE], completion)))
    assert isinstance(answer.end, Finished)
    return answer.end.done
