"""How many prompt tokens may go beside decoding streams without making them stutter."""

from __future__ import annotations

STRETCH = 2.4  # how much longer than a step without prompt rows a step may take
SIZES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
MIN_ROWS, MAX_ROWS = SIZES[0], SIZES[-1]
MEMORY = 0.2  # weight of the newest measurement


class PrefillBudget:
    """Learns what rows cost on this machine, from the steps themselves."""

    def __init__(self) -> None:
        self._base_s: dict[int, float] = {}  # by number of decoding streams
        self._row_s = 0.0

    def observe(self, *, streams: int, prompt_rows: int, took_s: float) -> None:
        """A step is over. Steps of prompts alone say nothing about stutter."""
        if streams == 0:
            return
        if prompt_rows == 0:
            self._base_s[streams] = _blend(self._base_s.get(streams, took_s), took_s)
        elif base_s := self._base(streams):
            row_s = max(took_s - base_s, 0.0) / prompt_rows
            self._row_s = _blend(self._row_s or row_s, row_s)

    def prompt_rows(self, streams: int) -> int:
        """Prompt tokens for the next step beside so many streams; MAX_ROWS beside none.

        Of few sizes, so that graph shapes recur (GUIDE 6.4).
        """
        if streams == 0:
            return MAX_ROWS
        base_s = self._base(streams)
        if not base_s or not self._row_s:
            return MIN_ROWS * 4
        rows = int((STRETCH - 1) * base_s / self._row_s)
        return max(size for size in SIZES if size <= max(rows, MIN_ROWS))

    def _base(self, streams: int) -> float:
        """Step time of the nearest number of streams that was seen."""
        nearest = min(self._base_s, key=lambda known: abs(known - streams), default=None)
        return self._base_s[nearest] if nearest is not None else 0.0


def _blend(old: float, new: float) -> float:
    return old + MEMORY * (new - old)
