"""Does an output repeat itself without end?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..chat.conversation import ToolCall

CHECK_EVERY = 64  # tokens between two looks at an output
MIN_REPEATS = 32  # of a run of tokens, before an output counts as endless
MIN_TOKENS = 1024  # that the repeats of a short run cover; a table of figures has fewer
MAX_PERIOD = 256  # tokens of the longest run that is looked for
MAX_SAME_CALLS = 8  # consecutive calls of one tool with equal arguments


def is_endless(output_tokens: Sequence[int]) -> bool:
    """Whether the output ends with a run of tokens that fills its last part again and again."""
    if len(output_tokens) < MIN_TOKENS:
        return False
    newest = np.array(output_tokens[-MIN_REPEATS * MAX_PERIOD :])
    last = len(newest) - 1
    before = newest[max(0, last - MAX_PERIOD) : last]
    for period in (len(before) - np.flatnonzero(before == newest[last])[::-1]).tolist():
        num_covered = max(MIN_TOKENS, MIN_REPEATS * period)
        tail = newest[-num_covered:]
        if len(tail) == num_covered and np.array_equal(tail[period:], tail[:-period]):
            return True
    return False


class CallCounter:
    """Counts how often a model has made the same call in a row."""

    def __init__(self) -> None:
        self._last: tuple[str, object] | None = None
        self._count = 0

    @property
    def is_endless(self) -> bool:
        return self._count > MAX_SAME_CALLS

    def add(self, calls: Sequence[ToolCall]) -> None:
        """Note the next calls of the output."""
        for call in calls:
            key = (call.name, call.arguments)
            self._count = self._count + 1 if key == self._last else 1
            self._last = key
