"""Which requests do `outrider bench` and `outrider verify` send?"""

from __future__ import annotations

from dataclasses import dataclass

from . import operations
from .client import Client, DaemonError, Json
from .session import ChatSession

CODE = """\
def parse(line: str) -> tuple[str, int]:
    name, _, count = line.partition(":")
    if not name:
        raise ValueError("a line has to start with a name")
    return name.strip(), int(count or 0)


def load(path: str) -> dict[str, int]:
    result = {}
    with open(path) as file:
        for line in file:
            name, count = parse(line)
            result[name] = result.get(name, 0) + count
    return result
"""
PROMPTS = {
    "chat": "Why is the sky blue, and why are sunsets red? Explain it to a child.",
    "edit": "Rename the function parse to parse_line in this file. Answer with the whole file and "
    f"nothing else.\n```python\n{CODE}```",
    "json": 'Give a JSON array of the eight planets. Each is an object with the fields "name", '
    '"radius_km", "moons" and "has_rings". Answer with the JSON and nothing else.',
}
PLAIN, ADAPTIVE = "plain", "adaptive"


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """One request. `mode`: PLAIN, ADAPTIVE, or a fixed number of draft tokens per step."""

    model: str
    kind: str
    mode: str
    number: int = 0  # distinguishes the streams of one kind
    temperature: float = 0.0
    num_predict: int = 128

    def body(self, *, logprobs: int | None = None) -> Json:
        """The body of POST /api/chat; `logprobs` is the number of alternatives per token."""
        extra = {"logprobs": True, "top_logprobs": logprobs} if logprobs is not None else {}
        start = f"Question {self.number}. " if self.number else ""
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": start + PROMPTS[self.kind]}],
            "stream": False,
            "options": {
                "temperature": self.temperature,
                "seed": 1 + self.number,
                "num_predict": self.num_predict,
                **_draft_options(self.mode),
            },
            **extra,
        }


async def speculation_of(client: Client, model: str) -> Json:
    """Loads a model and returns its `speculation` object of /api/ps. Raises DaemonError if no
    drafter is active for it."""
    await operations.load(client, ChatSession(model))
    loaded = (await client.get("/api/ps"))["models"]
    own = [row for row in loaded if model in (row["name"], row["name"].removesuffix(":latest"))]
    speculation = own[0].get("speculation") if own else None
    if not speculation or not speculation["drafters"]:
        reason = (speculation or {}).get("refusal") or "the daemon runs with --speculation off"
        raise DaemonError(f"no drafter is active for {model}: {reason}")
    return dict(speculation)


def _draft_options(mode: str) -> dict[str, int]:
    if mode == ADAPTIVE:
        return {}
    return {"draft_num_predict": 0} if mode == PLAIN else {"draft_fixed": int(mode)}
