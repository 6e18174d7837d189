"""How Anthropic's dialect words answers: one message, or the events of a stream (CONTRACT 3)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from ...chat.conversation import ToolCall
from ...protocol import Done
from ..completion import Accepted, Answer, Event, Events, Finished, Output
from ..streaming import Line, Lines

ID_BYTES = 12  # 24 hexadecimal digits (CONTRACT 3)
DELTAS = {"thinking": "thinking_delta", "text": "text_delta"}


@dataclass(frozen=True, slots=True)
class MessageWording:
    """Words the events of one request."""

    model: str  # as the client wrote it
    stop_sequences: Sequence[str] = ()  # of the request; the model has more of its own
    parallel_calls: bool = True  # False: only the first call of an answer is told

    async def lines(self, events: Events) -> Lines:
        """The events of a stream, in the order of CONTRACT 3."""
        stream = _MessageStream(self)
        async with aclosing(events):
            async for event in events:
                for line in stream.take(event):
                    yield line

    def whole(self, answer: Answer) -> Line:
        """The answer as one message: thinking, text, and tool calls."""
        output, content = answer.output, list[Line]()
        if output.thinking:
            content.append(_block("thinking", output.thinking))
        if output.text:
            content.append(_block("text", output.text))
        calls = self.told(output.tool_calls)
        content += [_tool_use(call, call.arguments) for call in calls]
        done = answer.end.done if isinstance(answer.end, Finished) else Done("stop")
        head = {**self.head(), "content": content}
        return {**head, **self.ending(done, has_calls=bool(calls)), "usage": _usage(done)}

    def head(self) -> Line:
        id_ = f"msg_{secrets.token_hex(ID_BYTES)}"
        return {"id": id_, "type": "message", "role": "assistant", "model": self.model}

    def told(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        return [call for call in calls if self.parallel_calls or call.index == 0]

    def ending(self, done: Done, *, has_calls: bool) -> Line:
        """Why the answer ended, and the client's stop sequence if one ended it."""
        if has_calls:
            return {"stop_reason": "tool_use"}
        if done.stop and done.stop in self.stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": done.stop}
        return {"stop_reason": "max_tokens" if done.reason == "length" else "end_turn"}


@dataclass(slots=True)
class _MessageStream:
    """The state of one stream: which content block is open, and its index."""

    wording: MessageWording
    has_begun: bool = field(default=False, init=False)
    has_calls: bool = field(default=False, init=False)
    index: int = field(default=0, init=False)  # of the block that is open, or of the next one
    open: str = field(default="", init=False)  # its type; "": none is open

    def take(self, event: Event) -> Iterator[Line]:
        """The lines of one event. Nothing is sent before the runner has taken the request."""
        match event:
            case Accepted(prompt_tokens):
                yield from self._begin(prompt_tokens)
            case Output():
                yield from self._begin(0)
                yield from self._text("thinking", event.thinking)
                yield from self._text("text", event.text)
                for call in self.wording.told(event.tool_calls):
                    yield from self._call(call)
            case Finished(done):
                yield from self._begin(done.prompt_tokens)
                yield from self._close()
                yield from self._end(done)

    def _begin(self, prompt_tokens: int) -> Iterator[Line]:
        if self.has_begun:
            return
        self.has_begun = True
        unknown = {"stop_reason": None, "stop_sequence": None}
        usage = {"input_tokens": prompt_tokens, "output_tokens": 0}
        message = {**self.wording.head(), "content": [], **unknown, "usage": usage}
        yield {"type": "message_start", "message": message}

    def _text(self, kind: str, text: str) -> Iterator[Line]:
        if not text:
            return
        if self.open != kind:
            yield from self._close()
            yield from self._open(kind, _block(kind, ""))
        yield self._delta({"type": DELTAS[kind], kind: text})

    def _call(self, call: ToolCall) -> Iterator[Line]:
        """A call is complete when it is parsed: its arguments are one delta."""
        self.has_calls = True
        arguments = msgspec.json.encode(call.arguments).decode()
        yield from self._close()
        yield from self._open("tool_use", _tool_use(call, {}))
        yield self._delta({"type": "input_json_delta", "partial_json": arguments})
        yield from self._close()

    def _open(self, kind: str, block: Line) -> Iterator[Line]:
        self.open = kind
        yield {"type": "content_block_start", "index": self.index, "content_block": block}

    def _delta(self, delta: Line) -> Line:
        return {"type": "content_block_delta", "index": self.index, "delta": delta}

    def _close(self) -> Iterator[Line]:
        if self.open:
            yield {"type": "content_block_stop", "index": self.index}
            self.open = ""
            self.index += 1

    def _end(self, done: Done) -> Iterator[Line]:
        delta = self.wording.ending(done, has_calls=self.has_calls)
        yield {"type": "message_delta", "delta": delta, "usage": _usage(done)}
        yield {"type": "message_stop"}


def _block(kind: str, text: str) -> Line:
    """Clients require the signature of a thought; there is none to check."""
    signature = {"signature": ""} if kind == "thinking" else {}
    return {"type": kind, kind: text, **signature}


def _tool_use(call: ToolCall, arguments: dict[str, object]) -> Line:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _usage(done: Done) -> Line:
    """Tokens; those of the prompt include the cached ones (CONTRACT 1.2)."""
    return {"input_tokens": done.prompt_tokens, "output_tokens": done.eval_tokens}
