"""Who is in the next batch: admission to slots, prompt chunks, and who gives way for others.

Pure bookkeeping: no llama.cpp, no clock. The engine carries out what a `Batch` says.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `count` pending tokens of a sequence; it is drawn from if none stay pending."""

    sequence: Sequence
    count: int

    @property
    def is_last(self) -> bool:
        return self.count == self.sequence.pending


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: slots to clear first, then the rows to decode."""

    freed: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Scheduler:
    """Shares slots and KV cells among the requests, first come, first served."""

    def __init__(self, *, slots: int, cells: int, rows: int, prompt_rows: int) -> None:
        """`rows`: of one decode; `prompt_rows`: prompt tokens beside decoding streams."""
        self._cells = cells
        self._rows = rows
        self._prompt_rows = prompt_rows
        self._free_slots = list(range(slots))
        self._freed: list[int] = []
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in order of admission

    def __bool__(self) -> bool:
        """Whether there is work."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; its slot is cleared with the next batch."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self._release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Back to the front of the queue; its tokens stay, its cells are given away."""
        self._release(sequence)
        self.waiting.appendleft(sequence)

    def next_batch(self) -> Batch:
        """The rows of the next step: every stream's own row first, then prompt chunks."""
        self._make_room()
        self._admit()
        decoding = [Chunk(seq, 1) for seq in self.running if seq.pending == 1]
        room = min(self._rows - len(decoding), self._num_free_cells() - len(decoding))
        if decoding:
            room = min(room, self._prompt_rows)
        chunks = decoding
        for seq in self.running:
            if seq.pending > 1 and room > 0:
                chunks.append(Chunk(seq, min(seq.pending, room)))
                room -= chunks[-1].count
        freed, self._freed = tuple(self._freed), []
        return Batch(freed, tuple(chunks))

    def _make_room(self) -> None:
        """The youngest give way until every running stream can take one more row."""
        while len(self.running) > 1 and self._num_free_cells() < len(self.running):
            self.preempt(self.running[-1])

    def _admit(self) -> None:
        """Give free slots to those whose whole prompt, and one token of everybody, fits."""
        claimed = sum(len(seq.tokens) + 1 for seq in self.running)
        while self.waiting and self._free_slots:
            seq = self.waiting[0]
            claimed += len(seq.tokens) + 1
            if self.running and claimed > self._cells:
                return
            seq.slot = heapq.heappop(self._free_slots)
            self.running.append(self.waiting.popleft())

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.running.remove(sequence)
        self._freed.append(sequence.slot)
        heapq.heappush(self._free_slots, sequence.slot)
        sequence.slot, sequence.cached = None, 0

    def _num_free_cells(self) -> int:
        return self._cells - sum(seq.cached for seq in self.running)
