"""How long do streams wait for each of their tokens? A histogram, as Prometheus keeps them."""

from __future__ import annotations

from bisect import bisect_left

from ..protocol import TOKEN_GAP_BOUNDS_S

BOUNDS_NS = tuple(int(bound * 1e9) for bound in TOKEN_GAP_BOUNDS_S)


class TokenGaps:
    """The time per token after the first one, of all streams.

    A step that yields several tokens counts as that many gaps of equal length, so that the sum of
    the histogram is the decoding time, and its count the number of tokens.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_NS) + 1)
        """Tokens by bound; the last bucket has none."""
        self.total_ns = 0
        self._newest_ns: dict[int, int] = {}  # time of the newest token, by id of the sequence

    def add(self, sequence_id: int, num_tokens: int, now_ns: int) -> None:
        """A step has yielded these tokens of a sequence, at least one."""
        last_ns = self._newest_ns.get(sequence_id)
        self._newest_ns[sequence_id] = now_ns
        if last_ns is None:
            return
        took_ns = now_ns - last_ns
        self.counts[bisect_left(BOUNDS_NS, took_ns / num_tokens)] += num_tokens
        self.total_ns += took_ns

    def forget(self, sequence_id: int) -> None:
        """The sequence has ended."""
        self._newest_ns.pop(sequence_id, None)
