"""Has a runner ceased to make progress? (A pure state machine: its callers hold the clock.)

A runner tells what it begins and how long that should take (`Working`), so that nobody has to ask
one that is idle, and a long step is no hang.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..protocol import Working


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a runner may be silent over its work, in seconds."""

    least_s: float = 30.0  # a busy machine, a runner that is swapped out
    factor: float = 10.0  # times what the runner expects of what it has begun
    unknown_s: float = 600.0  # a step of a kind that was never measured
    look_s: float = 5.0  # between two looks at the clock, while there is work

    def with_expected(self, expected_s: float | None) -> float:
        """Seconds for work of which so many are expected; None: nobody knows."""
        return self.unknown_s if expected_s is None else max(self.least_s, self.factor * expected_s)


@dataclass(slots=True)
class ProgressWatch:
    """What is known of the progress of one runner. Times are seconds of one clock."""

    patience: Patience = field(default_factory=Patience)
    _heard_s: float = 0.0  # when it got work, or sent something
    _due_s: float = 0.0  # when it has to send something
    _open: dict[int, float] = field(default_factory=dict)
    """Requests without an end: until when each is being prepared."""

    @property
    def has_work(self) -> bool:
        return bool(self._open)

    def begin(self, request_id: int, now_s: float) -> None:
        """A request is sent."""
        if not self._open:
            self.hear(now_s)
        self._open[request_id] = now_s

    def end(self, request_id: int) -> None:
        """A request has its last answer, or nobody waits for it any more."""
        self._open.pop(request_id, None)

    def hear(self, now_s: float) -> None:
        """The runner has sent something, so its last step is over."""
        self._heard_s, self._due_s = now_s, now_s + self.patience.least_s

    def hear_answer(self, request_id: int) -> None:
        """A request has got text, so its preparation is over."""
        if request_id in self._open:
            self._open[request_id] = 0.0

    def hear_of_work(self, message: Working, now_s: float) -> None:
        """Something begins: the preparation of a request, or a step."""
        until_s = now_s + self.patience.with_expected(message.expected_s)
        if message.id is None:
            self._due_s = until_s
        elif message.id in self._open:
            self._open[message.id] = until_s

    def forgive(self, lost_s: float) -> None:
        """The clock went on while everything stood still, the runner too."""
        self._heard_s += lost_s
        self._due_s += lost_s
        self._open = {each: until_s + lost_s for each, until_s in self._open.items()}

    def silent_s(self, now_s: float) -> float:
        """Seconds for which it has had work and sent nothing; 0 without work."""
        return now_s - self._heard_s if self._open else 0.0

    def overdue_s(self, now_s: float) -> float:
        """Seconds beyond all that it may take; 0 if it is in time, or has no work."""
        if not self._open:
            return 0.0
        return max(0.0, now_s - max(self._due_s, *self._open.values()))
