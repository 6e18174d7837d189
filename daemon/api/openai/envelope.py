"""What stands around the choices of an OpenAI answer? (CONTRACT 2.2 and 2.3)"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..completion import Event, Finished, Rendered
from ..streaming import Line

FINGERPRINT = "fp_ollama"  # CONTRACT 2.2
ID_RANGE = 10**12  # of the number in an id: clients merge messages with the same id


@dataclass(frozen=True, slots=True)
class AnswerEnvelope:
    """The fields that are the same in all chunks of an answer."""

    id: str
    created: int  # Unix time in seconds
    model: str  # as the client wrote it

    @classmethod
    def start(cls, prefix: str, model: str) -> AnswerEnvelope:
        """That of a new answer, whose id begins with the prefix."""
        return cls(f"{prefix}-{secrets.randbelow(ID_RANGE)}", int(time.time()), model)

    def wrap(self, kind: str, choices: Sequence[Line]) -> Line:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": list(choices),
        }


def usage(ends: Sequence[Event], choices_per_prompt: int) -> Line:
    """Token counts from the last event of each choice; a prompt counts once for all its choices."""
    dones = [end.done if isinstance(end, Finished) else None for end in ends]
    prompt = sum(done.prompt_tokens for done in dones[::choices_per_prompt] if done)
    generated = sum(done.eval_tokens for done in dones if done)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
    }


def finish_reason(end: Event, *, has_called: bool = False) -> str | None:
    """Why a choice ended; None if nothing was generated because the prompt was only rendered."""
    match end:
        case Finished(done):
            return "tool_calls" if has_called and done.reason == "stop" else done.reason
        case Rendered():
            return None
        case _:
            return "load"


def debug_info(ends: Sequence[Event]) -> Line:
    """The prompt, if it was only rendered."""
    for end in ends:
        if isinstance(end, Rendered):
            return {"_debug_info": {"rendered_template": end.prompt, "image_count": 0}}
    return {}
