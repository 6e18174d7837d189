"""How Ollama's dialect words answers of /api/generate and /api/chat (CONTRACT 1.2, 1.3, 1.8)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from ...chat.conversation import ToolCall
from ...protocol import Logprob, SpeculationReport
from ..completion import (
    NOTHING,
    Accepted,
    Answer,
    Event,
    Events,
    Finished,
    Loaded,
    Output,
    Rendered,
)
from ..streaming import Line, Lines

Shape = Callable[[Output], Line]
"""The part of a line in which generate and chat differ."""


@dataclass(frozen=True, slots=True)
class AnswerWording:
    """Words the events of one request."""

    model: str  # as the client wrote it
    shape: Shape
    shows_context: bool = False

    async def lines(self, events: Events) -> Lines:
        """A line for each event but `Loaded` and `Accepted`."""
        dropped: Line = {}
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Accepted):
                    dropped = _dropped(event)
                elif isinstance(event, Finished):
                    yield self.line(event) | dropped
                elif not isinstance(event, Loaded):
                    yield self.line(event)

    def whole(self, answer: Answer) -> Line:
        """One object: the last line with the output of all lines."""
        output = answer.output
        line = self.line(answer.end) | _logprobs(output.logprobs) | self.shape(output)
        return line | _dropped(answer.accepted)

    def line(self, event: Event) -> Line:
        match event:
            case Output():
                return {**self._head(event), "done": False, **_logprobs(event.logprobs)}
            case Rendered(prompt):
                debug = {"rendered_template": prompt, "image_count": 0}
                return {**self._head(NOTHING), "done": False, "_debug_info": debug}
            case Finished(done):
                return self.ended(done.reason) | self._metrics(event)
            case Loaded() | Accepted():
                return self.ended("load")

    def ended(self, reason: str) -> Line:
        """A last line without metrics."""
        return {**self._head(NOTHING), "done": True, "done_reason": reason}

    def _head(self, output: Output) -> Line:
        created_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self.model, "created_at": created_at, **self.shape(output)}

    def _metrics(self, finished: Finished) -> Line:
        """The metrics that are not zero; durations in nanoseconds."""
        done = finished.done
        metrics: Line = {
            "context": list(done.context) if self.shows_context else None,
            "total_duration": finished.total_ns,
            "load_duration": finished.load_ns,
            "prompt_eval_count": done.prompt_tokens,
            "prompt_eval_duration": done.prompt_ns,
            "eval_count": done.eval_tokens,
            "eval_duration": done.eval_ns,
            "speculation": _speculation(done.speculation_report),
        }
        return {key: value for key, value in metrics.items() if value}


def generate_shape(output: Output) -> Line:
    """Tool calls have no id here (CONTRACT 1.2)."""
    shape = _shape("response", output)
    if output.tool_calls:
        shape["tool_calls"] = [{"function": _function(call)} for call in output.tool_calls]
    return shape


def chat_shape(output: Output) -> Line:
    message = {"role": "assistant", **_shape("content", output)}
    if output.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in output.tool_calls]
    return {"message": message}


def _shape(key: str, output: Output) -> Line:
    """The text under its key; thinking only if there is some."""
    shape: Line = {key: output.text}
    if output.thinking:
        shape["thinking"] = output.thinking
    return shape


def _tool_call(call: ToolCall) -> Line:
    """A call as in CONTRACT 1.9."""
    return {"id": call.id, "function": _function(call)}


def _function(call: ToolCall) -> Line:
    return {"index": call.index, "name": call.name, "arguments": call.arguments}


def _dropped(accepted: Accepted | None) -> Line:
    """How many old messages did not fit the context, and how many tokens of the rest; Ollama has no
    such fields."""
    if accepted is None:
        return {}
    counts = {"truncated": accepted.dropped_messages, "truncated_tokens": accepted.cut_tokens}
    return {name: count for name, count in counts.items() if count}


def _logprobs(entries: tuple[Logprob, ...]) -> Line:
    """The field of CONTRACT 1.8, if there are entries."""
    return {"logprobs": [_logprob(entry) for entry in entries]} if entries else {}


def _logprob(entry: Logprob) -> Line:
    top = [_token(other.piece, other.logprob) for other in entry.top]
    return _token(entry.piece, entry.logprob) | ({"top_logprobs": top} if top else {})


def _token(piece: bytes, logprob: float) -> Line:
    return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}


def _speculation(report: SpeculationReport | None) -> Line | None:
    """The drafts of this answer; Ollama has no such field."""
    if report is None:
        return None
    return {
        "drafter": report.drafter,
        "drafted": report.drafted,
        "accepted": report.accepted,
        "mean_length": round(report.mean_length, 2),
        "estimated_speedup": round(report.speedup, 3),
    }
