"""Ollama's own dialect: /api/generate and /api/chat (CONTRACT 1.2, 1.3 and 1.4)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from ...chat.conversation import Conversation, Message, RawPrompt, ToolCall
from ...errors import BadRequest, InvalidFormat, NotFound, Unsupported
from ...options import Options
from ...protocol import Delta, Done, Logprob, SpeculationReport, Submit
from ...runners.model_info import ModelInfo, plan_load
from ...runners.pool import RunnerSpec
from ..state import APP_STATE, AppState
from ..streaming import Line, respond
from . import wire

ANY_OBJECT = '{"type":"object"}'

# (text, thinking, is_last) -> the part of a line that differs between generate and chat
Shape = Callable[[str, str], Line]


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request: what to load, what to ask, and how to word the answer."""

    body: wire.CompletionFields
    spec: RunnerSpec
    submit: Submit | None  # None: only load
    shape: Shape
    shows_context: bool
    start_ns: int


async def generate(request: web.Request) -> web.StreamResponse:
    """POST /api/generate"""
    start_ns = time.monotonic_ns()
    body = await wire.read(request, wire.GenerateRequest)
    state = request.app[APP_STATE]
    _check_logprobs(body)
    if not body.model:
        raise NotFound("model '' not found")
    info = await state.model_index.find(body.model, f"model '{body.model}' not found")
    if not body.prompt and body.keep_alive == 0:
        return await _unload(state, info, body, _generate_shape)
    if body.raw and (body.template or body.system or body.context):
        raise BadRequest("raw mode does not support template, system, or context")
    _check_capabilities(info, body, "generate")
    if body.suffix:
        raise BadRequest(f"{info.model.name.full} does not support insert")
    if body.template:
        raise Unsupported("a template in the request is not supported yet; leave it out")
    _check_support(has_images=bool(body.images))
    job = _job(state, info, body, _generate_prompt(info, body), _generate_shape, start_ns)
    return await _answer(request, state, job)


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /api/chat"""
    start_ns = time.monotonic_ns()
    body = await wire.read(request, wire.ChatRequest)
    state = request.app[APP_STATE]
    _check_logprobs(body)
    if not body.model:
        raise BadRequest("model is required")
    info = await state.model_index.find(body.model, f"model '{body.model}' not found")
    if not body.messages and body.keep_alive == 0:
        return await _unload(state, info, body, _chat_shape)
    _check_capabilities(info, body, "chat")
    if body.tools:
        raise BadRequest(f"{info.model.name.full} does not support tools")
    _check_support(has_images=any(message.images for message in body.messages))
    job = _job(state, info, body, _chat_prompt(info, body), _chat_shape, start_ns)
    return await _answer(request, state, job)


def _check_logprobs(body: wire.CompletionFields) -> None:
    if not 0 <= body.top_logprobs <= 20:
        raise BadRequest("top_logprobs must be between 0 and 20")


def _check_capabilities(info: ModelInfo, body: wire.CompletionFields, verb: str) -> None:
    if body.think and not info.can("thinking"):
        raise BadRequest(f'"{body.model}" does not support thinking')
    if not info.can("completion"):
        raise BadRequest(f'"{body.model}" does not support {verb}')


def _check_support(*, has_images: bool) -> None:
    """Refuse what this version would otherwise silently leave out."""
    if has_images:
        raise Unsupported("images are not supported yet; leave them out")


def _schema(body: wire.CompletionFields) -> str:
    """The JSON schema that `format` asks for, or ""."""
    if isinstance(body.format, dict):
        return json.dumps(body.format)
    if body.format == "json":
        return ANY_OBJECT
    if body.format:
        given = json.dumps(json.dumps(body.format))
        raise InvalidFormat(
            f'invalid format: {given}; expected "json" or a valid JSON Schema object'
        )
    return ""


def _generate_prompt(
    info: ModelInfo, body: wire.GenerateRequest
) -> Conversation | RawPrompt | None:
    if not body.prompt:
        return None
    if body.raw:
        return RawPrompt(body.prompt)
    stored = () if body.context else _stored(info)
    return _chat(info, body, (*stored, Message("user", body.prompt)), body.system)


def _chat_prompt(info: ModelInfo, body: wire.ChatRequest) -> Conversation | None:
    if not body.messages:
        return None
    messages = (_message(message) for message in body.messages)
    return _chat(info, body, (*_stored(info), *messages), "")


def _chat(
    info: ModelInfo, body: wire.CompletionFields, messages: tuple[Message, ...], system: str
) -> Conversation:
    """The model's SYSTEM goes first unless the messages begin with one of their own."""
    system = system or info.model.system
    if system and messages[0].role != "system":
        messages = (Message("system", system), *messages)
    think = body.think
    if think is None and info.can("thinking"):
        think = True  # CONTRACT 1.7
    return Conversation(messages, think=think)


def _stored(info: ModelInfo) -> tuple[Message, ...]:
    return tuple(
        Message(str(m.get("role", "")), str(m.get("content", ""))) for m in info.model.messages
    )


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


def _job(
    state: AppState,
    info: ModelInfo,
    body: wire.CompletionFields,
    prompt: Conversation | RawPrompt | None,
    shape: Shape,
    start_ns: int,
) -> Job:
    options = Options.merge(info.model.params, body.options)
    load = plan_load(info, options, state.settings)
    spec = RunnerSpec(info.model.name.short, info.model.digest, load)
    submit = prompt and Submit(
        id=0,
        prompt=prompt,
        sampling=options.sampling(),
        limits=options.limits(truncate=body.truncate, shift=body.shift),
        context=tuple(body.context) if isinstance(body, wire.GenerateRequest) else (),
        schema=_schema(body),
        num_logprobs=body.top_logprobs if body.logprobs else None,
        render_only=body.render_only,
        draft_limit=options.draft_num_predict,
        draft_fixed=options.draft_fixed,
    )
    shows_context = isinstance(body, wire.GenerateRequest) and not body.raw
    return Job(body, spec, submit or None, shape, shows_context, start_ns)


async def _unload(
    state: AppState, info: ModelInfo, body: wire.CompletionFields, shape: Shape
) -> web.StreamResponse:
    await state.pool.unload(str(info.path))
    return web.json_response({**_line(body, shape("", "")), "done": True, "done_reason": "unload"})


async def _answer(request: web.Request, state: AppState, job: Job) -> web.StreamResponse:
    stream = job.body.stream and job.submit is not None and not job.body.render_only
    return await respond(request, _lines(state, job), stream=stream, fold=fold)


async def _lines(state: AppState, job: Job) -> AsyncGenerator[Line, None]:
    """The answer, line by line; the last one has `done`."""
    async with state.pool.lease(job.spec, job.body.keep_alive) as runner:
        load_ns = time.monotonic_ns() - job.start_ns
        if job.submit is None:
            line = _line(job.body, job.shape("", ""))
            yield {**line, "done": True, "done_reason": "load"}
            return
        async with aclosing(runner.submit(job.submit)) as deltas:
            async for delta in deltas:
                if delta.done and delta.done.reason == "render":
                    yield _rendered(job, delta)
                    return
                if delta.text or delta.thinking or delta.logprobs:
                    yield {**_line(job.body, job.shape(delta.text, delta.thinking)), **_rest(delta)}
                if delta.done:
                    state.metrics.count(job.spec.name, delta.done)
                    yield _last(job, delta.done, load_ns)


def _line(body: wire.CompletionFields, part: Line) -> Line:
    created_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": body.model, "created_at": created_at, **part}


def _rest(delta: Delta) -> Line:
    """What a line has beside its text."""
    line: Line = {"done": False}
    if delta.logprobs:
        line["logprobs"] = [_logprob(entry) for entry in delta.logprobs]
    return line


def _logprob(entry: Logprob) -> Line:
    """One token as CONTRACT 1.8 has it."""
    top = [_alternative(other.piece, other.logprob) for other in entry.top]
    return _alternative(entry.piece, entry.logprob) | ({"top_logprobs": top} if top else {})


def _alternative(piece: bytes, logprob: float) -> Line:
    return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}


def _last(job: Job, done: Done, load_ns: int) -> Line:
    """The final line: why it ended, and the metrics that are not zero."""
    metrics: Line = {
        "context": list(done.context) if job.shows_context else None,
        "total_duration": time.monotonic_ns() - job.start_ns,
        "load_duration": load_ns,
        "prompt_eval_count": done.prompt_tokens,
        "prompt_eval_duration": done.prompt_ns,
        "eval_count": done.eval_tokens,
        "eval_duration": done.eval_ns,
        "speculation": _speculation(done.speculation_report),
    }
    line = {**_line(job.body, job.shape("", "")), "done": True, "done_reason": done.reason}
    return line | {key: value for key, value in metrics.items() if value}


def _speculation(speculation_report: SpeculationReport | None) -> Line | None:
    """What reading ahead did; a field that Ollama does not have."""
    if speculation_report is None:
        return None
    return {
        "drafter": speculation_report.drafter,
        "drafted": speculation_report.drafted,
        "accepted": speculation_report.accepted,
        "mean_length": round(speculation_report.mean_length, 2),
        "estimated_speedup": round(speculation_report.speedup, 3),
    }


def _rendered(job: Job, delta: Delta) -> Line:
    info = {"rendered_template": delta.text, "image_count": 0}
    return {**_line(job.body, job.shape("", "")), "done": False, "_debug_info": info}


def _generate_shape(text: str, thinking: str) -> Line:
    return _part("response", text, thinking)


def _chat_shape(text: str, thinking: str) -> Line:
    return {"message": {"role": "assistant", **_part("content", text, thinking)}}


def _part(key: str, text: str, thinking: str) -> Line:
    """The text under its key; thinking only where there is some."""
    part: Line = {key: text}
    if thinking:
        part["thinking"] = thinking
    return part


def fold(lines: list[Line]) -> Line:
    """One object: the texts of all lines joined, everything else from the last."""
    last = dict(lines[-1])
    logprobs = [
        entry for line in lines if isinstance(part := line.get("logprobs"), list) for entry in part
    ]
    if logprobs:
        last["logprobs"] = logprobs
    messages = [message for line in lines if isinstance(message := line.get("message"), dict)]
    if messages:
        return last | _chat_shape(_joined(messages, "content"), _joined(messages, "thinking"))
    return last | _generate_shape(_joined(lines, "response"), _joined(lines, "thinking"))


def _joined(parts: list[Line], key: str) -> str:
    return "".join(str(part.get(key, "")) for part in parts)
