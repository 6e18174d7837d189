"""A small model with the target's vocabulary, in a KV cache of its own (GUIDE 2.6).

Files of one family often differ in the padding at the end of their vocabularies. What the target
has beyond the drafter's tokens is never drafted, and is another token in the drafter's text; both
cost accepted tokens at most.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np

from ....protocol import MAX_MODEL_DRAFTS
from ...batch import Batch
from ...kv.cached_sequence import common_prefix
from ...llama.interface import DECODED, SequenceDecoder
from ...sampling.truncation import Row
from ...sequence import Sequence
from .drafter import MAX_UNSEEN, Drafter, DraftForward, DraftRequest, SelectNext

UNKNOWN = 0  # the token that stands for those that the drafter's vocabulary lacks


@dataclass(slots=True, eq=False)
class DrafterSequence:
    """A sequence of the drafter's own cache, and the tokens in it."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))


class ModelDrafter(Drafter):
    """Evaluates the text when it drafts, then makes one decode per depth."""

    name = "model"
    max_length = MAX_MODEL_DRAFTS
    can_evaluate = True

    def __init__(
        self, context: SequenceDecoder, rows: int, slots: int, target_tokens: int | None = None
    ) -> None:
        """`rows`: of one decode at most; `target_tokens`: size of the target's vocabulary; None: as
        the drafter's."""
        self._context = context
        self._num_tokens = context.model.num_tokens
        self._target_tokens = target_tokens or self._num_tokens
        self._batch = Batch(rows)
        self._free = [DrafterSequence(seq) for seq in range(slots)]  # with the text of their last
        self._running: dict[int, DrafterSequence] = {}  # by id

    def pending(self, sequence: Sequence) -> int:
        cached = self._cached(sequence)
        return len(sequence.tokens) - (self._num_reusable(cached, sequence) if cached else 0)

    def draft(self, requests: Seq[DraftRequest], select_next: SelectNext) -> list[DraftForward]:
        forwards: list[DraftForward] = []
        requests = [request for request in requests if self._prefill(request.sequence, forwards)]
        while requests:
            self._batch.clear()
            rows = [self._add(request) for request in requests]
            start_s = time.perf_counter()
            if not self._decode([request.sequence for request in requests]):
                break
            is_prefill = self._batch.count > MAX_UNSEEN * len(requests)
            for request, row in zip(requests, rows, strict=True):
                request.append(self._logits(row))
            took_s = time.perf_counter() - start_s
            forwards.append(DraftForward(self._batch.count, took_s, is_prefill))
            requests = select_next(requests)
        return forwards

    def _add(self, request: DraftRequest) -> int:
        """Add the tokens that the cache lacks: the newest of the text, or the newest draft."""
        cached, text = self._running[request.sequence.id], request.sequence.tokens
        tokens = text[len(cached.tokens) :]
        tokens.extend(request.tokens[max(len(cached.tokens) - len(text), 0) :])
        row = self._batch.add(cached.seq, len(cached.tokens), self._known(tokens), outputs=1)
        cached.tokens.extend(tokens)
        return row

    def _prefill(self, sequence: Sequence, forwards: list[DraftForward], uncached: int = 1) -> bool:
        """Evaluate the text but for its `uncached` newest tokens; what fits into the next draft
        forward is left to that. False if there are no free cells."""
        cached = self._cached(sequence)
        if cached is None:
            return False
        if (common := self._num_reusable(cached, sequence)) < len(cached.tokens):
            self._truncate(cached, common)
        while len(sequence.tokens) - len(cached.tokens) > max(uncached, 1 + MAX_MODEL_DRAFTS):
            end = min(len(cached.tokens) + self._batch.capacity, len(sequence.tokens) - uncached)
            if self._decode_text(sequence, end, forwards) is None:
                return False
        return True

    def evaluate(self, request: DraftRequest) -> list[DraftForward]:
        forwards: list[DraftForward] = []
        sequence = request.sequence
        if not self._prefill(sequence, forwards, uncached=1 + request.length):
            return forwards
        end = len(sequence.tokens) - 1
        count = min(end - len(self._running[sequence.id].tokens), request.length)
        if count <= 0:
            return forwards
        row = self._decode_text(sequence, end, forwards, outputs=count)
        if row is not None:
            for i in range(count):
                request.append_evaluated(self._logits(row + i), count - 1 - i)
        return forwards

    def _decode_text(
        self, sequence: Sequence, end: int, forwards: list[DraftForward], outputs: int = 0
    ) -> int | None:
        """Evaluate the text before `end` in one decode; the row of the first of its `outputs`, or
        None if there are no free cells."""
        cached = self._running[sequence.id]
        tokens = sequence.tokens[len(cached.tokens) : end]
        self._batch.clear()
        known = self._known(tokens)
        row = self._batch.add(cached.seq, len(cached.tokens), known, outputs=outputs)
        cached.tokens.extend(tokens)
        start_s = time.perf_counter()
        if not self._decode([sequence]):
            return None
        took_s = time.perf_counter() - start_s
        forwards.append(DraftForward(len(tokens), took_s, is_prefill=True))
        return row

    def _known(self, tokens: array[int]) -> array[int]:
        """The tokens, with UNKNOWN for those that the drafter lacks."""
        if self._target_tokens <= self._num_tokens:
            return tokens
        return array("i", (t if t < self._num_tokens else UNKNOWN for t in tokens))

    def _logits(self, row: int) -> Row:
        """A row of the target's width."""
        logits = self._context.logits(row)[: self._target_tokens]
        if len(logits) == self._target_tokens:
            return logits
        missing = self._target_tokens - len(logits)
        return np.pad(logits, (0, missing), constant_values=-np.inf)

    def _cached(self, sequence: Sequence) -> DrafterSequence | None:
        """The stream's sequence in the cache. A new stream takes the free one with the longest
        common prefix, of equal ones the least recently used."""
        if cached := self._running.get(sequence.id):
            return cached
        cached = max(self._free, key=lambda each: self._num_reusable(each, sequence), default=None)
        if cached:
            self._free.remove(cached)
            self._running[sequence.id] = cached
            self._truncate(cached, self._num_reusable(cached, sequence))
        return cached

    def _num_reusable(self, cached: DrafterSequence, sequence: Sequence) -> int:
        """Tokens of the text that need not be evaluated again."""
        common = min(common_prefix(cached.tokens, sequence.tokens), len(sequence.tokens) - 1)
        if self._context.model.window and common < len(cached.tokens) - MAX_MODEL_DRAFTS:
            return 0  # the window may have lost the cells before (GUIDE 4.2)
        return common

    def _truncate(self, cached: DrafterSequence, count: int) -> None:
        if count:
            self._context.truncate(cached.seq, count)
        else:
            self._context.clear(cached.seq)
        del cached.tokens[count:]

    def _decode(self, sequences: Seq[Sequence]) -> bool:
        """Decode the batch, if need be after clearing the free sequences. If there still are no
        free cells, False; these sequences then begin again with the next draft."""
        if self._context.decode(self._batch) == DECODED:
            return True
        for cached in self._free:
            self._truncate(cached, 0)
        if self._context.decode(self._batch) == DECODED:
            return True
        for sequence in sequences:
            self._truncate(self._running[sequence.id], 0)
        return False

    def forget(self, sequence: Sequence) -> None:
        if cached := self._running.pop(sequence.id, None):
            self._free.append(cached)

    def set_threads(self, threads: int) -> None:
        self._context.set_threads(threads)

    def close(self) -> None:
        self._context.close()
        self._context.model.close()
