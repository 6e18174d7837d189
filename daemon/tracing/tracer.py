"""What is a collector told of a request?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..request_note import RequestNote


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A request that has ended."""

    method: str
    route: str  # as in the table of routes; "" for none
    path: str
    status: int
    took_s: float
    server: str  # host and port, as the client has named them
    headers: Mapping[str, str]  # of the request, which may name the span that it belongs to
    note: RequestNote


class RequestTracer(Protocol):
    """Tells a collector of requests."""

    def record(self, request: TracedRequest) -> None:
        """Queue what became of a request that has just ended; takes less than 0.1 ms."""
        ...

    def close(self) -> None:
        """Send what is queued; may take seconds if the collector does not answer."""
        ...
