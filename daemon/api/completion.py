"""How text is made for any dialect: one request, one stream of events, one fold of them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ..chat.conversation import Conversation, RawPrompt, ToolCall
from ..options import Options
from ..protocol import Done, Logprob, Submit
from ..runners.model_info import ModelInfo
from .state import AppState


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A request for text, as every dialect reads it."""

    info: ModelInfo
    prompt: Conversation | RawPrompt | None  # None: the model is only loaded
    options: Options  # sampling, limits, draft bounds and how the model is loaded
    start_ns: int  # time.monotonic_ns() when the request arrived
    context: tuple[int, ...] = ()  # tokens of an earlier answer, put before the prompt
    schema: str = ""  # JSON schema that the answer follows
    truncate: bool = True  # drop old messages that do not fit
    shift: bool = True  # forget the oldest tokens when the context is full
    num_logprobs: int | None = None  # alternatives for each token; None: no logprobs
    render_only: bool = False
    keep_alive_s: float | None = None  # None: what holds for the model already


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready. Always the first event."""

    load_ns: int  # since the request arrived


@dataclass(frozen=True, slots=True)
class Output:
    """What one engine step added: thinking, then text, then tool calls.

    These share an event because the logprobs belong to the tokens of a step, which may end the
    thinking and begin the text.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Logprob, ...] = ()


NOTHING = Output()


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompt as text; the only event after `Loaded` of a request with `render_only`."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. Always the last event of one."""

    done: Done  # reason, counts, context tokens, speculation report
    load_ns: int
    total_ns: int  # since the request arrived


Event = Loaded | Output | Rendered | Finished
Events = AsyncGenerator[Event, None]


@dataclass(frozen=True, slots=True)
class Answer:
    """All events of a request in one value."""

    output: Output  # all outputs joined
    end: Event  # the last event: `Loaded` if the model was only loaded


async def complete(state: AppState, completion: Completion) -> Events:
    """The events of a request; closing the generator frees its slot.

    Raises Busy, LoadFailed, BadRequest, InvalidFormat and RunnerError.
    """
    spec = state.runner_spec(completion.info, completion.options)
    async with state.pool.lease(spec, completion.keep_alive_s) as runner:
        load_ns = time.monotonic_ns() - completion.start_ns
        yield Loaded(load_ns)
        if completion.prompt is None:
            return
        submit = _submit(completion, completion.prompt)
        async with aclosing(runner.submit(submit)) as deltas:
            async for delta in deltas:
                if submit.render_only:
                    yield Rendered(delta.text)
                    return
                output = Output(delta.text, delta.thinking, delta.tool_calls, delta.logprobs)
                if output != NOTHING:
                    yield output
                if delta.done:
                    state.metrics.count(spec.name, delta.done)
                    total_ns = time.monotonic_ns() - completion.start_ns
                    yield Finished(delta.done, load_ns, total_ns)


async def collect(events: Events) -> Answer:
    """The fold of a request's events: the whole answer."""
    async with aclosing(events):
        taken = [event async for event in events]
    outputs = [event for event in taken if isinstance(event, Output)]
    joined = Output(
        "".join(output.text for output in outputs),
        "".join(output.thinking for output in outputs),
        tuple(call for output in outputs for call in output.tool_calls),
        tuple(entry for output in outputs for entry in output.logprobs),
    )
    return Answer(joined, taken[-1])


def _submit(completion: Completion, prompt: Conversation | RawPrompt) -> Submit:
    options = completion.options
    return Submit(
        id=0,  # the runner's connection replaces it
        prompt=prompt,
        sampling=options.sampling(),
        limits=options.limits(truncate=completion.truncate, shift=completion.shift),
        context=completion.context,
        schema=completion.schema,
        num_logprobs=completion.num_logprobs,
        render_only=completion.render_only,
        draft_limit=options.draft_num_predict,
        draft_fixed=options.draft_fixed,
    )
