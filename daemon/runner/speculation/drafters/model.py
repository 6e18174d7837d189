"""A small model with the target's vocabulary, in a KV cache of its own (GUIDE 2.6)."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ....protocol import MAX_MODEL_DRAFTS
from ...batch import Batch
from ...kv.cached_sequence import common_prefix
from ...llama.interface import DECODED, SequenceDecoder
from ...sequence import Sequence
from .drafter import MAX_UNSEEN, DraftForward, DraftRequest, SelectNext


@dataclass(slots=True, eq=False)
class DrafterSequence:
    """A sequence of the drafter's own cache, and the tokens in it."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))


class ModelDrafter:
    """Follows the text token by token, and reads ahead in one decode for each depth."""

    name = "model"
    max_length = MAX_MODEL_DRAFTS
    is_free = False
    can_evaluate = True

    def __init__(self, context: SequenceDecoder, rows: int, slots: int) -> None:
        """`rows`: of one decode at most."""
        self._context = context
        self._batch = Batch(rows)
        self._resting = [DrafterSequence(seq) for seq in range(slots)]  # of texts that are over
        self._memories: dict[int, DrafterSequence] = {}  # of those that run, by id

    def pending(self, sequence: Sequence) -> int:
        memory = self._memory(sequence)
        return len(sequence.tokens) - (self._common(memory, sequence) if memory else 0)

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        calls: list[DraftForward] = []
        requests = [request for request in requests if self._follow(request.sequence, calls)]
        while requests:
            self._batch.clear()
            rows = [self._lay(request) for request in requests]
            start_s = time.perf_counter()
            if not self._decode([request.sequence for request in requests]):
                break
            is_prefill = self._batch.count > MAX_UNSEEN * len(requests)
            for request, row in zip(requests, rows, strict=True):
                request.append(self._context.logits(row))
            calls.append(DraftForward(self._batch.count, time.perf_counter() - start_s, is_prefill))
            requests = select_next(requests)
        return calls

    def _lay(self, request: DraftRequest) -> int:
        """What the cache does not have yet: the newest tokens, or the newest guess."""
        memory, text = self._memories[request.sequence.id], request.sequence.tokens
        tokens = text[len(memory.tokens) :]
        tokens.extend(request.tokens[max(len(memory.tokens) - len(text), 0) :])
        row = self._batch.add(memory.seq, len(memory.tokens), tokens, outputs=1)
        memory.tokens.extend(tokens)
        return row

    def _follow(self, sequence: Sequence, calls: list[DraftForward], unread: int = 1) -> bool:
        """Bring the cache to the stream's text but for its `unread` newest tokens, or for so few
        more that the next decode takes them in; False if there is no room."""
        memory = self._memory(sequence)
        if memory is None:
            return False
        if (same := self._common(memory, sequence)) < len(memory.tokens):
            self._cut(memory, same)
        while len(sequence.tokens) - len(memory.tokens) > max(unread, 1 + MAX_MODEL_DRAFTS):
            end = min(len(memory.tokens) + self._batch.capacity, len(sequence.tokens) - unread)
            if self._read(sequence, end, calls) is None:
                return False
        return True

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        calls: list[DraftForward] = []
        if not self._follow(request.sequence, calls, unread=1 + request.length):
            return calls
        read, end = (
            len(self._memories[request.sequence.id].tokens),
            len(request.sequence.tokens) - 1,
        )
        count = min(end - read, request.length)
        if count <= 0:
            return calls
        row = self._read(request.sequence, end, calls, outputs=count)
        if row is not None:
            for i in range(count):
                request.evaluate_at(self._context.logits(row + i), count - 1 - i)
        return calls

    def _read(
        self, sequence: Sequence, end: int, calls: list[DraftForward], outputs: int = 0
    ) -> int | None:
        """Take in the text before `end` with one decode; the row of the first of its `outputs`, or
        None if there is no room."""
        memory = self._memories[sequence.id]
        tokens = sequence.tokens[len(memory.tokens) : end]
        self._batch.clear()
        row = self._batch.add(memory.seq, len(memory.tokens), tokens, outputs=outputs)
        memory.tokens.extend(tokens)
        start_s = time.perf_counter()
        if not self._decode([sequence]):
            return None
        calls.append(DraftForward(len(tokens), time.perf_counter() - start_s, is_prefill=True))
        return row

    def _memory(self, sequence: Sequence) -> DrafterSequence | None:
        """That of this text. A new one gets the resting memory that has most of it, of equal ones
        the one longest unused, and the rest of that is forgotten."""
        if memory := self._memories.get(sequence.id):
            return memory
        memory = max(self._resting, key=lambda m: self._common(m, sequence), default=None)
        if memory:
            self._resting.remove(memory)
            self._memories[sequence.id] = memory
            self._cut(memory, self._common(memory, sequence))
        return memory

    def _common(self, memory: DrafterSequence, sequence: Sequence) -> int:
        """Tokens of the text that need not be evaluated again."""
        same = min(common_prefix(memory.tokens, sequence.tokens), len(sequence.tokens) - 1)
        if self._context.model.window and same < len(memory.tokens) - MAX_MODEL_DRAFTS:
            return 0  # the window may have lost what stood before (GUIDE 4.2)
        return same

    def _cut(self, memory: DrafterSequence, count: int) -> None:
        if count:
            self._context.truncate(memory.seq, count)
        else:
            self._context.clear(memory.seq)
        del memory.tokens[count:]

    def _decode(self, sequences: Seq[Sequence]) -> bool:
        """Whether it worked, if need be without what rests; if not, these sequences begin anew the
        next time."""
        if self._context.decode(self._batch) == DECODED:
            return True
        for memory in self._resting:
            self._cut(memory, 0)
        if self._context.decode(self._batch) == DECODED:
            return True
        for sequence in sequences:
            self._cut(self._memories[sequence.id], 0)
        return False

    def observe(self, sequence: Sequence, rows: range, *, is_tip: bool) -> None:
        """Reads the text itself when it is asked."""

    def forget(self, sequence: Sequence) -> None:
        if memory := self._memories.pop(sequence.id, None):
            self._resting.append(memory)

    def close(self) -> None:
        self._context.close()
        self._context.model.close()
