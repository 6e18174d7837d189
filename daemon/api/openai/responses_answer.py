"""How /v1/responses words answers: one response, or the events of a stream (CONTRACT 2.6)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from ...chat.conversation import ToolCall
from ...protocol import Done
from ..completion import Accepted, Answer, Event, Events, Finished, Output
from ..streaming import Line, Lines
from .response_tools import ToolOffer

COMPLETED, IN_PROGRESS, FAILED = "completed", "in_progress", "failed"  # values of `status`


@dataclass(frozen=True, slots=True)
class ResponseWording:
    """Words the events of one request."""

    id: str
    created_at: int  # seconds since 1970
    echo: Line  # the fields that repeat the request
    offer: ToolOffer
    parallel_calls: bool = True  # False: only the first call of an answer is told

    def whole(self, answer: Answer) -> Line:
        """The answer as one response: the thought, the text, then the calls.

        Ollama drops the text beside calls; here it is kept, because no client needs it gone.
        """
        output, calls = answer.output, self.told(answer.output.tool_calls)
        items = [_reasoning(_new_id("rs"), output.thinking)] if output.thinking else []
        if output.text or not calls:
            items.append(_message(_new_id("msg"), output.text))
        items += [self.call_item(_new_id("fc"), call) for call in calls]
        done = answer.end.done if isinstance(answer.end, Finished) else Done("stop")
        return self.response(COMPLETED, items, done)

    def told(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        return [call for call in calls if self.parallel_calls or call.index == 0]

    def call_item(self, id_: str, call: ToolCall) -> Line:
        """A call that is complete. A member of a namespace has its own name and that one's."""
        namespace, name = self.offer.split(call.name)
        arguments = msgspec.json.encode(call.arguments).decode()
        item = {"id": id_, "type": "function_call", "status": COMPLETED, "call_id": call.id}
        return {
            **item,
            "name": name,
            "arguments": arguments,
            **({"namespace": namespace} if namespace else {}),
        }

    def response(
        self, status: str, items: Sequence[Line], done: Done | None = None, error: str = ""
    ) -> Line:
        """The response object. Its status stays "completed" at the token limit (CONTRACT 2.6)."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": int(time.time()) if status == COMPLETED else None,
            "status": status,
            "incomplete_details": None,
            "output": list(items),
            "error": {"code": "server_error", "message": error} if error else None,
            **self.echo,
            "usage": _usage(done) if done else None,
        }


@dataclass(slots=True)
class ResponseStream:
    """The state of one stream: the items that are done, and the one that is open."""

    wording: ResponseWording
    number: int = field(default=0, init=False)  # of the next event
    done: list[Line] = field(default_factory=list, init=False)
    kind: str = field(default="", init=False)  # type of the open item; "": none is open
    id: str = field(default="", init=False)  # of the open item
    text: str = field(default="", init=False)  # of the open item

    async def lines(self, events: Events) -> Lines:
        """The events of a stream, in the order of CONTRACT 2.6."""
        async with aclosing(events):
            async for event in events:
                for line in self._take(event):
                    yield line

    def failed(self, _status: int, text: str) -> Line:
        """The last event of a stream that an error ends."""
        response = self.wording.response(FAILED, self.done, error=text)
        return self._line("response.failed", response=response)

    def _take(self, event: Event) -> Iterator[Line]:
        """The lines of one event. Nothing is sent before the runner has taken the request."""
        match event:
            case Accepted():
                yield from self._begin()
            case Output():
                yield from self._begin()
                yield from self._think(event.thinking)
                yield from self._say(event.text)
                for call in self.wording.told(event.tool_calls):
                    yield from self._call(call)
            case Finished(done):
                yield from self._begin()
                yield from self._close()
                response = self.wording.response(COMPLETED, self.done, done)
                yield self._line("response.completed", response=response)

    def _begin(self) -> Iterator[Line]:
        if self.number:
            return
        response = self.wording.response(IN_PROGRESS, ())
        yield self._line("response.created", response=response)
        yield self._line("response.in_progress", response=response)

    def _think(self, text: str) -> Iterator[Line]:
        if not text:
            return
        if self.kind != "reasoning":
            yield from self._open("reasoning", "rs")
            yield self._added({"id": self.id, "type": "reasoning", "summary": []})
        self.text += text
        yield self._part("response.reasoning_summary_text.delta", "summary_index", delta=text)

    def _say(self, text: str) -> Iterator[Line]:
        if not text:
            return
        if self.kind != "message":
            yield from self._open("message", "msg")
            empty = {**_message(self.id, ""), "status": IN_PROGRESS, "content": []}
            yield self._added(empty)
            yield self._part("response.content_part.added", part=_output_text(""))
        self.text += text
        yield self._part("response.output_text.delta", delta=text, logprobs=[])

    def _call(self, call: ToolCall) -> Iterator[Line]:
        """A call is complete when it is parsed: its arguments are one delta."""
        yield from self._open("function_call", "fc")
        item = self.wording.call_item(self.id, call)
        arguments = item["arguments"]
        place = {"item_id": self.id, "output_index": len(self.done)}
        yield self._added({**item, "status": IN_PROGRESS, "arguments": ""})
        name = "response.function_call_arguments"
        yield self._line(f"{name}.delta", **place, delta=arguments)
        yield self._line(f"{name}.done", **place, arguments=arguments)
        yield from self._finish(item)

    def _open(self, kind: str, prefix: str) -> Iterator[Line]:
        yield from self._close()
        self.kind, self.id, self.text = kind, _new_id(prefix), ""

    def _close(self) -> Iterator[Line]:
        if self.kind == "reasoning":
            name = "response.reasoning_summary_text.done"
            yield self._part(name, "summary_index", text=self.text)
            yield from self._finish(_reasoning(self.id, self.text))
        elif self.kind == "message":
            yield self._part("response.output_text.done", text=self.text, logprobs=[])
            yield self._part("response.content_part.done", part=_output_text(self.text))
            yield from self._finish(_message(self.id, self.text))

    def _finish(self, item: Line) -> Iterator[Line]:
        index = len(self.done)
        self.kind = ""
        self.done.append(item)
        yield self._line("response.output_item.done", output_index=index, item=item)

    def _added(self, item: Line) -> Line:
        return self._line("response.output_item.added", output_index=len(self.done), item=item)

    def _part(self, kind: str, index: str = "content_index", **fields: object) -> Line:
        """An event about the only part of the open item."""
        place = {"item_id": self.id, "output_index": len(self.done), index: 0}
        return self._line(kind, **place, **fields)

    def _line(self, kind: str, **fields: object) -> Line:
        number = self.number
        self.number += 1
        return {"type": kind, "sequence_number": number, **fields}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def _reasoning(id_: str, text: str) -> Line:
    """A thought; clients send it back as `encrypted_content`, which is the plain text here."""
    summary = [{"type": "summary_text", "text": text}]
    return {"id": id_, "type": "reasoning", "summary": summary, "encrypted_content": text}


def _message(id_: str, text: str) -> Line:
    head = {"id": id_, "type": "message", "status": COMPLETED, "role": "assistant"}
    return {**head, "content": [_output_text(text)]}


def _output_text(text: str) -> Line:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(done: Done) -> Line:
    """Tokens. Those of a thought are not counted apart."""
    return {
        "input_tokens": done.prompt_tokens,
        "output_tokens": done.eval_tokens,
        "total_tokens": done.prompt_tokens + done.eval_tokens,
        "input_tokens_details": {"cached_tokens": done.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
