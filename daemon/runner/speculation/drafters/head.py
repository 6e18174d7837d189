"""A head for the target's hidden rows, which reads them into a KV cache (GUIDE 2.3 and 2.4)."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ....protocol import MAX_MODEL_DRAFTS
from ...batch import Batch, Hidden
from ...llama.interface import DECODED, HeadDecoder
from ...sequence import Sequence
from .drafter import MAX_UNSEEN, DraftForward, DraftRequest, SelectNext

MAX_HIDDEN_ROWS = (
    512  # hidden rows of a stream that wait to be read; a head hardly looks further back
)


@dataclass(slots=True, eq=False)
class HeadSequence:
    """A sequence of the head's cache, which holds the positions before `end`, or the newest of
    them; `hidden` are the target's rows from which the tokens at `end` and after it were drawn."""

    seq: int
    end: int = 0
    hidden: list[Hidden] = field(default_factory=list)

    @property
    def next(self) -> int:
        """The position of the target whose hidden row is to come."""
        return self.end - 1 + len(self.hidden)


@dataclass(frozen=True, slots=True)
class HeadTip:
    """What the head reads next for one stream: tokens from a position on, each with its row."""

    request: DraftRequest
    memory: HeadSequence
    position: int
    tokens: Seq[int]
    hidden: Seq[Hidden]


class HeadDrafter:
    """Takes in what the target made of the text only when it is to draft."""

    max_length = MAX_MODEL_DRAFTS
    is_free = False
    can_evaluate = False

    def __init__(self, name: str, context: HeadDecoder, rows: int, slots: int) -> None:
        """`rows`: of one decode at most."""
        self.name = name
        self._context = context
        self._batch = Batch(rows, hidden_width=context.width)
        self._resting = [HeadSequence(seq) for seq in range(slots)]
        self._memories: dict[int, HeadSequence] = {}  # of the streams that run, by id

    def pending(self, sequence: Sequence) -> int:
        memory = self._memories.get(sequence.id)
        return max(len(memory.hidden), 1) if memory else 1

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        return []

    def observe(self, sequence: Sequence, rows: range, *, is_tip: bool) -> None:
        memory = self._memories.get(sequence.id)
        if memory is None:
            if not self._resting:
                return
            memory = self._memories[sequence.id] = self._resting.pop()
        start, end = sequence.cached - len(rows), sequence.cached + 1
        if start != memory.next:
            self._begin(memory, start)
        if sequence.pending > MAX_HIDDEN_ROWS:
            return  # what comes after these rows would push them out
        if end - memory.end > MAX_HIDDEN_ROWS:
            self._skip(memory, end - MAX_HIDDEN_ROWS // 2)
        kept = rows[max(memory.next - start, 0) :]
        memory.hidden.extend(self._context.take(row) for row in kept)

    def _begin(self, memory: HeadSequence, start: int) -> None:
        """A text of which the target evaluated this position first."""
        self._context.clear(memory.seq)
        first = self._context.first
        if start or first is None:
            memory.end, memory.hidden = start + 1, []
        else:
            memory.end, memory.hidden = 0, [first]

    def _skip(self, memory: HeadSequence, end: int) -> None:
        """Too much to read: an empty cache may start anywhere."""
        self._context.clear(memory.seq)
        del memory.hidden[: end - memory.end]
        memory.end = end

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        calls: list[DraftForward] = []
        followed = [request for request in requests if self._follow(request, calls)]
        memories = [self._memories[request.sequence.id] for request in followed]
        start_s = time.perf_counter()
        tips = [self._start(request) for request in followed]
        while tips:
            self._batch.clear()
            rows = [self._lay(tip) for tip in tips]
            if self._context.decode(self._batch) != DECODED:
                for memory in memories:
                    self._give_up(memory)
                break
            is_prefill = self._batch.count > MAX_UNSEEN * len(tips)
            for tip, row in zip(tips, rows, strict=True):
                self._take_in(tip, row)
            calls.append(DraftForward(self._batch.count, time.perf_counter() - start_s, is_prefill))
            wanted = select_next([tip.request for tip in tips])
            start_s = time.perf_counter()
            tips = [
                self._advance(tip, row)
                for tip, row in zip(tips, rows, strict=True)
                if tip.request in wanted
            ]
        for memory in memories:
            self._context.truncate(memory.seq, memory.end)
        return calls

    def _follow(self, request: DraftRequest, calls: list[DraftForward]) -> bool:
        """Read what led to the text, but for so few rows that a draft takes them in. False if that
        is not known, or if there is no room."""
        sequence, memory = request.sequence, self._memories.get(request.sequence.id)
        if memory is None or not memory.hidden:
            return False
        while len(memory.hidden) > self._context.max_unread:
            count = min(self._batch.capacity, len(memory.hidden) - 1)
            tokens = sequence.tokens[memory.end : memory.end + count]
            start_s = time.perf_counter()
            hidden = self._context.fuse(memory.hidden[:count])
            tip = HeadTip(request, memory, memory.end, tokens, hidden)
            self._batch.clear()
            self._lay(tip, outputs=0)
            if self._context.decode(self._batch) != DECODED:
                self._give_up(memory)
                return False
            calls.append(DraftForward(count, time.perf_counter() - start_s, is_prefill=True))
            memory.end += count
            del memory.hidden[:count]
        return True

    def _start(self, request: DraftRequest) -> HeadTip:
        """What is left to read, with which the first guess is made."""
        memory = self._memories[request.sequence.id]
        hidden = self._context.fuse(memory.hidden)
        return HeadTip(request, memory, memory.end, request.sequence.tokens[memory.end :], hidden)

    def _lay(self, tip: HeadTip, outputs: int = 1) -> int:
        return self._batch.add_hidden(
            tip.memory.seq, tip.position, tip.tokens, tip.hidden, outputs=outputs
        )

    def _take_in(self, tip: HeadTip, row: int) -> None:
        """One guess further; the rest of what was decoded is text, which stays."""
        request, memory = tip.request, tip.memory
        memory.end, memory.hidden = len(request.sequence.tokens), []
        request.append(self._context.logits(row))

    def _advance(self, tip: HeadTip, row: int) -> HeadTip:
        """What comes after the newest guess."""
        position, token = tip.position + len(tip.tokens), tip.request.tokens[-1]
        return HeadTip(tip.request, tip.memory, position, [token], [self._context.hidden(row)])

    def _give_up(self, memory: HeadSequence) -> None:
        """No free cells: begin anew with the next token."""
        self._context.clear(memory.seq)
        memory.end, memory.hidden = 0, []

    def forget(self, sequence: Sequence) -> None:
        if memory := self._memories.pop(sequence.id, None):
            self._give_up(memory)
            self._resting.append(memory)

    def close(self) -> None:
        self._context.close()
