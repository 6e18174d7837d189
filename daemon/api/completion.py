"""How text is made for any dialect: one request, one stream of events, one fold of them."""

from __future__ import annotations

import itertools
import secrets
import string
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from ..chat.conversation import Prompt, ToolCall
from ..chat.format import ChatFormat
from ..options import Options
from ..protocol import Delta, Done, Logprob, Submit
from ..runners.model_info import ModelInfo
from .completion_meter import CompletionMeter
from .state import AppState

ID_LETTERS = string.ascii_lowercase + string.digits  # of a call's id (CONTRACT 1.3)
ID_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A request for text, as every dialect reads it."""

    info: ModelInfo
    prompt: Prompt | None  # None: the model is only loaded
    format: ChatFormat | None = None  # None: the model's own
    options: Options  # sampling, limits, draft bounds and how the model is loaded
    start_ns: int  # time.monotonic_ns() when the request arrived
    context: tuple[int, ...] = ()  # tokens of an earlier answer, put before the prompt
    schema: str = ""  # JSON schema that the answer follows
    truncate: bool = True  # drop old messages that do not fit
    shift: bool = True  # forget the oldest tokens when the context is full
    num_logprobs: int | None = None  # alternatives for each token; None: no logprobs
    scored: tuple[str, ...] = ()  # words whose probability as the first token is wanted
    render_only: bool = False
    keep_alive_s: float | None = None  # None: what holds for the model already


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready. Always the first event."""

    load_ns: int  # since the request arrived
    warnings: tuple[str, ...] = ()  # what its clients are told, a sentence each


@dataclass(frozen=True, slots=True)
class Accepted:
    """The runner took the request. The second event, unless it only loads or renders."""

    prompt_tokens: int
    dropped_messages: int  # old messages that did not fit the context
    cut_tokens: int = 0  # of the rest, cut out of its middle because it did not fit either


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
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. Always the last event of one."""

    done: Done  # reason, counts, context tokens, speculation report
    load_ns: int
    total_ns: int  # since the request arrived


Event = Loaded | Accepted | Output | Rendered | Finished
Events = AsyncGenerator[Event, None]


@dataclass(frozen=True, slots=True)
class Answer:
    """All events of a request in one value."""

    output: Output  # all outputs joined
    accepted: Accepted | None  # None: nothing was generated
    end: Event  # the last event: `Loaded` if the model was only loaded


async def complete(state: AppState, completion: Completion) -> Events:
    """The events of a request; closing the generator frees its slot.

    Raises Busy, LoadFailed, BadRequest, InvalidFormat and RunnerError.
    """
    spec, prompt = state.runner_spec(completion.info, completion.options), completion.prompt
    makes_text = prompt is not None and not completion.render_only
    meter = CompletionMeter(
        state.metrics.requests, spec.name, completion.start_ns, makes_text=makes_text
    )
    with meter:
        async with state.pool.lease(spec, completion.keep_alive_s) as runner:
            load_ns = meter.note_loaded()
            yield Loaded(load_ns, state.pool.warnings(runner))
            if prompt is None:
                return
            submit = _submit(completion, prompt, spec.load.num_ctx)
            number = _CallNumbers()
            async with aclosing(runner.submit(submit)) as deltas:
                async for delta in deltas:
                    if submit.render_only:
                        yield Rendered(delta.text, delta.done.prompt_tokens if delta.done else 0)
                        return
                    for event in _partial_events(delta, number):
                        if isinstance(event, Output):
                            meter.note_output()
                        yield event
                    if delta.done:
                        yield Finished(delta.done, load_ns, meter.finish(delta.done))


def _partial_events(delta: Delta, number: _CallNumbers) -> Iterator[Accepted | Output]:
    """What a delta tells besides the end."""
    if started := delta.started:
        yield Accepted(started.prompt_tokens, started.dropped_messages, started.cut_tokens)
    calls = tuple(number(call) for call in delta.tool_calls)
    output = Output(delta.text, delta.thinking, calls, delta.logprobs)
    if output != NOTHING:
        yield output


async def collect(events: Events) -> Answer:
    """The fold of a request's events: the whole answer."""
    async with aclosing(events):
        return fold([event async for event in events])


def fold(events: Sequence[Event]) -> Answer:
    """The whole answer that these events tell, which are all of one request."""
    outputs = [event for event in events if isinstance(event, Output)]
    joined = Output(
        "".join(output.text for output in outputs),
        "".join(output.thinking for output in outputs),
        tuple(call for output in outputs for call in output.tool_calls),
        tuple(entry for output in outputs for entry in output.logprobs),
    )
    accepted = next((event for event in events if isinstance(event, Accepted)), None)
    return Answer(joined, accepted, events[-1])


class _CallNumbers:
    """Gives each tool call of an answer its index, and an id if the model wrote none."""

    def __init__(self) -> None:
        self._index = itertools.count()

    def __call__(self, call: ToolCall) -> ToolCall:
        id_ = call.id or "call_" + "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
        return msgspec.structs.replace(call, id=id_, index=next(self._index))


def _submit(completion: Completion, prompt: Prompt, planned_ctx: int) -> Submit:
    """The request as the runner reads it; one that names no context uses all that is loaded."""
    options = completion.options
    num_ctx = planned_ctx if options.num_ctx > 0 else 0
    return Submit(
        id=0,  # the runner's connection replaces it
        prompt=prompt,
        format=completion.format or completion.info.chat_format,
        sampling=options.sampling(),
        limits=options.limits(
            truncate=completion.truncate, shift=completion.shift, num_ctx=num_ctx
        ),
        context=completion.context,
        schema=completion.schema,
        num_logprobs=completion.num_logprobs,
        scored=completion.scored,
        render_only=completion.render_only,
        draft_limit=options.draft_num_predict,
        draft_fixed=options.draft_fixed,
    )
