"""How many requests were there, how did they end, and how long did they wait?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from http import HTTPMethod

from ..protocol import Done
from ..runners.pool_counters import put_newest
from .histogram import DurationHistogram

CANCEL, ERROR = "cancel", "error"  # reasons that a runner does not tell
UNMATCHED = "unmatched"  # the route of a path that is none of the daemon's
OTHER = "other"  # a method that is none of HTTP's
METHODS = frozenset(HTTPMethod)
NS = 1e-9  # seconds


@dataclass(slots=True)
class ModelRequests:
    """The requests to one model."""

    endings: Counter[str] = field(default_factory=Counter)  # by reason
    killed: int = 0  # renderings
    first_s: DurationHistogram = field(default_factory=DurationHistogram)
    queue_s: DurationHistogram = field(default_factory=DurationHistogram)
    prompt_s: DurationHistogram = field(default_factory=DurationHistogram)
    total_s: DurationHistogram = field(default_factory=DurationHistogram)

    def finish(self, done: Done, took_s: float) -> None:
        """A text is complete."""
        self.endings[done.reason] += 1
        self.queue_s.observe(done.queue_ns * NS)
        self.prompt_s.observe(done.prompt_ns * NS)
        self.total_s.observe(took_s)


@dataclass(slots=True)
class RequestMetrics:
    """All requests since the daemon started."""

    answers: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """By route, method, status and name of the API key."""
    route_s: dict[str, DurationHistogram] = field(default_factory=dict)
    num_running: int = 0
    by_model: dict[str, ModelRequests] = field(default_factory=dict)

    def of(self, model: str) -> ModelRequests:
        """The figures of a model, which now counts as used last."""
        found = self.by_model.get(model) or ModelRequests()
        put_newest(self.by_model, model, found)
        return found

    def answer(self, route: str, method: str, answer: tuple[int, str], took_s: float) -> None:
        """Count an answer: its status and the name of the key; `route` may be empty."""
        status, key_name = answer
        route, method = route or UNMATCHED, method if method in METHODS else OTHER
        self.answers[route, method, str(status), key_name] += 1
        self.route_s.setdefault(route, DurationHistogram()).observe(took_s)
