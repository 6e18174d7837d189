"""How are the answers of /v1/chat/completions worded? (CONTRACT 2.2)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from ...chat.conversation import ToolCall
from ...protocol import Logprob
from ..completion import Accepted, Answer, Event, Loaded, Output
from ..streaming import Line, Lines
from .choices import Choices
from .envelope import AnswerEnvelope, debug_info, finish_reason, usage

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWording:
    """Words the choices of one request."""

    envelope: AnswerEnvelope
    shows_logprobs: bool
    shows_usage: bool  # in a stream; one object always has it
    parallel_calls: bool  # else only the first call of each choice is shown
    _begun: set[int] = field(default_factory=set)  # choices with a first chunk
    _called: set[int] = field(default_factory=set)  # choices with a tool call

    def whole(self, answers: Sequence[Answer]) -> Line:
        ends = [answer.end for answer in answers]
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        body = self.envelope.wrap(WHOLE, choices)
        return body | {"usage": usage(ends, len(ends))} | debug_info(ends)

    async def chunks(self, choices: Choices) -> Lines:
        ends: dict[int, Event] = {}
        async with aclosing(choices):
            async for index, event in choices:
                if isinstance(event, Output):
                    for line in self._outputs(index, event):
                        yield line
                elif not isinstance(event, Loaded | Accepted):
                    ends[index] = event
                    for line in self._end(index, event):
                        yield line
        if self.shows_usage:
            yield self.envelope.wrap(CHUNK, ()) | {"usage": usage(list(ends.values()), len(ends))}

    def _choice(self, index: int, answer: Answer) -> Line:
        output = answer.output
        calls = self._shown(output.tool_calls)
        message: Line = {"role": "assistant", "content": output.text}
        if output.thinking:
            message["reasoning"] = output.thinking
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        reason = finish_reason(answer.end, has_called=bool(calls))
        choice: Line = {"index": index, "message": message, "finish_reason": reason}
        return choice | _logprobs(output.logprobs) if self.shows_logprobs else choice

    def _outputs(self, index: int, output: Output) -> Iterator[Line]:
        """One chunk, or two if there is thinking beside something else; the logprobs come last."""
        calls = self._shown(output.tool_calls)
        thinking: Line = {"reasoning": output.thinking} if output.thinking else {}
        if thinking and (output.text or calls):
            yield self._chunk(index, thinking)
            thinking = {}
        if not (thinking or output.text or calls or output.logprobs):
            return  # only calls that are not shown
        delta: Line = {"content": output.text} | thinking
        if calls:
            self._called.add(index)
            delta["tool_calls"] = [_call(call) for call in calls]
        yield self._chunk(index, delta, logprobs=output.logprobs)

    def _end(self, index: int, end: Event) -> Iterator[Line]:
        if index not in self._begun:
            yield self._chunk(index, {})
        reason = finish_reason(end, has_called=index in self._called)
        yield self._chunk(index, {}, reason=reason)

    def _chunk(
        self,
        index: int,
        delta: Line,
        *,
        reason: str | None = None,
        logprobs: tuple[Logprob, ...] = (),
    ) -> Line:
        """A chunk of one choice; its first has the role and always a content."""
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", "content": ""} | delta
        choice: Line = {"index": index, "delta": delta, "finish_reason": reason}
        if logprobs:
            choice |= _logprobs(logprobs)
        return self.envelope.wrap(CHUNK, [choice])

    def _shown(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        return calls if self.parallel_calls else tuple(c for c in calls if c.index == 0)


def _call(call: ToolCall) -> Line:
    """A call; its arguments are JSON in a string."""
    arguments = msgspec.json.encode(call.arguments).decode()
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "index": call.index, "type": "function", "function": function}


def _logprobs(entries: tuple[Logprob, ...]) -> Line:
    return {"logprobs": {"content": [_logprob(entry) for entry in entries]}}


def _logprob(entry: Logprob) -> Line:
    top = [_token(other.piece, other.logprob) for other in entry.top]
    return _token(entry.piece, entry.logprob) | {"top_logprobs": top}


def _token(piece: bytes, logprob: float) -> Line:
    return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}
