"""NextN and EAGLE heads: evaluate the target's hidden rows (GUIDE 2.3 and 2.4)."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ....protocol import MAX_MODEL_DRAFTS
from ...batch import Batch, Hidden
from ...llama.interface import DECODED, HeadDecoder
from ...sequence import Sequence
from .drafter import MAX_UNSEEN, Drafter, DraftForward, DraftRequest, SelectNext

MAX_HIDDEN_ROWS = 512
"""Pending hidden rows of a stream at most; the drafts hardly depend on older ones."""


@dataclass(slots=True, eq=False)
class HeadSequence:
    """A sequence of the head's cache, which holds the positions before `end` or the newest of them.

    `hidden`: the target's rows from which the tokens at `end` and after it were sampled.
    """

    seq: int
    end: int = 0
    hidden: list[Hidden] = field(default_factory=list)

    @property
    def next(self) -> int:
        """The position of the target whose hidden row comes next."""
        return self.end - 1 + len(self.hidden)


@dataclass(frozen=True, slots=True)
class HeadInput:
    """One stream's rows of the next draft forward: tokens from a position on, with hidden rows."""

    request: DraftRequest
    cached: HeadSequence
    position: int
    tokens: Seq[int]
    hidden: Seq[Hidden]


class HeadDrafter(Drafter):
    """Keeps the target's hidden rows and evaluates them with the next draft."""

    max_length = MAX_MODEL_DRAFTS

    def __init__(self, name: str, context: HeadDecoder, rows: int, slots: int) -> None:
        """`rows`: of one decode at most."""
        self.name = name
        self._context = context
        self._batch = Batch(rows, hidden_width=context.width)
        self._free = [HeadSequence(seq) for seq in range(slots)]
        self._running: dict[int, HeadSequence] = {}  # by id

    def pending(self, sequence: Sequence) -> int:
        cached = self._running.get(sequence.id)
        return max(len(cached.hidden), 1) if cached else 1

    def observe(self, sequence: Sequence, rows: range, *, is_newest: bool) -> None:
        cached = self._running.get(sequence.id)
        if cached is None:
            if not self._free:
                return
            cached = self._running[sequence.id] = self._free.pop()
        start, end = sequence.cached - len(rows), sequence.cached + 1
        if start != cached.next:
            self._restart(cached, start)
        if sequence.pending > MAX_HIDDEN_ROWS:
            return  # the rows after these would displace them
        if end - cached.end > MAX_HIDDEN_ROWS:
            self._skip_to(cached, end - MAX_HIDDEN_ROWS // 2)
        kept = rows[max(cached.next - start, 0) :]
        cached.hidden.extend(self._context.take(row) for row in kept)

    def _restart(self, cached: HeadSequence, start: int) -> None:
        """Begin with the target's position `start`, the first that it evaluated."""
        self._context.clear(cached.seq)
        first = self._context.first
        if start or first is None:
            cached.end, cached.hidden = start + 1, []
        else:
            cached.end, cached.hidden = 0, [first]

    def _skip_to(self, cached: HeadSequence, end: int) -> None:
        """Drop the rows before `end`: an empty cache may start at any position."""
        self._context.clear(cached.seq)
        del cached.hidden[: end - cached.end]
        cached.end = end

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        forwards: list[DraftForward] = []
        ready = [request for request in requests if self._prefill(request, forwards)]
        sequences = [self._running[request.sequence.id] for request in ready]
        start_s = time.perf_counter()
        inputs = [self._first_input(request) for request in ready]
        while inputs:
            self._batch.clear()
            rows = [self._add(each) for each in inputs]
            if self._context.decode(self._batch) != DECODED:
                for cached in sequences:
                    self._reset(cached)
                break
            is_prefill = self._batch.count > MAX_UNSEEN * len(inputs)
            for each, row in zip(inputs, rows, strict=True):
                self._append_draft(each, row)
            took_s = time.perf_counter() - start_s
            forwards.append(DraftForward(self._batch.count, took_s, is_prefill))
            selected = select_next([each.request for each in inputs])
            start_s = time.perf_counter()
            pairs = zip(inputs, rows, strict=True)
            inputs = [self._next_input(i, row) for i, row in pairs if i.request in selected]
        for cached in sequences:
            self._context.truncate(cached.seq, cached.end)
        return forwards

    def _prefill(self, request: DraftRequest, forwards: list[DraftForward]) -> bool:
        """Evaluate the pending hidden rows but for those that the first draft forward takes.

        False if there are no hidden rows, or no free cells.
        """
        sequence, cached = request.sequence, self._running.get(request.sequence.id)
        if cached is None or not cached.hidden:
            return False
        while len(cached.hidden) > self._context.max_unread:
            count = min(self._batch.capacity, len(cached.hidden) - 1)
            tokens = sequence.tokens[cached.end : cached.end + count]
            start_s = time.perf_counter()
            hidden = self._context.fuse(cached.hidden[:count])
            self._batch.clear()
            self._add(HeadInput(request, cached, cached.end, tokens, hidden), outputs=0)
            if self._context.decode(self._batch) != DECODED:
                self._reset(cached)
                return False
            forwards.append(DraftForward(count, time.perf_counter() - start_s, is_prefill=True))
            cached.end += count
            del cached.hidden[:count]
        return True

    def _first_input(self, request: DraftRequest) -> HeadInput:
        """The remaining pending rows, from the last of which the first draft token is sampled."""
        cached = self._running[request.sequence.id]
        hidden = self._context.fuse(cached.hidden)
        return HeadInput(request, cached, cached.end, request.sequence.tokens[cached.end :], hidden)

    def _next_input(self, previous: HeadInput, row: int) -> HeadInput:
        """The newest draft token."""
        request, position = previous.request, previous.position + len(previous.tokens)
        hidden = [self._context.hidden(row)]
        return HeadInput(request, previous.cached, position, [request.tokens[-1]], hidden)

    def _add(self, each: HeadInput, outputs: int = 1) -> int:
        return self._batch.add_hidden(
            each.cached.seq, each.position, each.tokens, each.hidden, outputs=outputs
        )

    def _append_draft(self, each: HeadInput, row: int) -> None:
        """Sample a draft token; the rows before it are text, which stays in the cache."""
        request, cached = each.request, each.cached
        cached.end, cached.hidden = len(request.sequence.tokens), []
        request.append(self._context.logits(row))

    def _reset(self, cached: HeadSequence) -> None:
        """Without free cells, begin again with the next token."""
        self._context.clear(cached.seq)
        cached.end, cached.hidden = 0, []

    def forget(self, sequence: Sequence) -> None:
        if cached := self._running.pop(sequence.id, None):
            self._reset(cached)
            self._free.append(cached)

    def set_threads(self, threads: int) -> None:
        self._context.set_threads(threads)

    def close(self) -> None:
        self._context.close()
