"""How long will a step take? A rough answer, by which the front knows a hang from a long step."""

from __future__ import annotations

WEIGHT = 0.3  # of the newest step
# A step that should take longer than this is announced: the front waits ten times as long, and at
# least 30 s (runners/watchdog.py).
LONG_S = 3.0
# Seconds without a message after which the next step is announced: the chunks of a long prompt send
# nothing.
SILENT_S = 5.0
PREPARED_S = 0.0  # is expected of the preparation of a request that is over


class StepForecast:
    """Seconds by rows, rounded to powers of two. Longer contexts and a slower machine are learned
    with each step; what drafts or prompts cost apart does not matter here."""

    def __init__(self) -> None:
        self._took_s: dict[int, float] = {}  # by the bits of the number of rows

    def observe(self, rows: int, took_s: float) -> None:
        """Learn from a step."""
        kind = rows.bit_length()
        before_s = self._took_s.get(kind, took_s)
        self._took_s[kind] = before_s + WEIGHT * (took_s - before_s)

    def expected_s(self, rows: int) -> float | None:
        """None before the first step. A number of rows that never occurred takes as long for each
        row as the next smaller one did; that is too much rather than too little."""
        kind = rows.bit_length()
        if kind in self._took_s:
            return self._took_s[kind]
        if smaller := [known for known in self._took_s if known < kind]:
            return self._took_s[max(smaller)] * (1 << (kind - max(smaller)))
        return self._took_s[min(self._took_s)] if self._took_s else None


class StepAnnouncer:
    """Which steps are announced?"""

    def __init__(self) -> None:
        self._forecast = StepForecast()
        self._sent_s = 0.0

    def note_message(self, now_s: float) -> None:
        """The front has got a message."""
        self._sent_s = now_s

    def is_due(self, rows: int, now_s: float) -> bool:
        """Whether the front needs to know of a step that begins now."""
        expected_s = self.expected_s(rows)
        return expected_s is None or expected_s > LONG_S or now_s - self._sent_s > SILENT_S

    def expected_s(self, rows: int) -> float | None:
        return self._forecast.expected_s(rows)

    def observe(self, rows: int, took_s: float) -> None:
        self._forecast.observe(rows, took_s)
