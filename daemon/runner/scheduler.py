"""Which sequences are in the next batch: admission, prompt chunks, preemption?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .kv.cached_sequence import common_prefix
from .kv.prefix_cache import PrefixCache
from .sequence import Sequence

# Tokens. A request waits for another one that computes so many tokens of its prompt.
MIN_SHARED_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `count` pending tokens of a sequence; if none are left, a token is sampled."""

    sequence: Sequence
    count: int

    @property
    def is_last(self) -> bool:
        return self.count == self.sequence.pending


class Scheduler:
    """Distributes slots and KV cells among the requests, first come, first served.

    It calls no llama.cpp and reads no clock: PrefixCache keeps the KV cells, and the number of
    prompt rows beside decoding streams is an argument of each batch.
    """

    def __init__(self, cache: PrefixCache, *, slots: int, rows: int) -> None:
        """`slots`: sequences that run at a time; `rows`: capacity of one batch."""
        self._cache = cache
        self._slots = slots
        self._rows = rows
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in order of admission
        self._held: list[Sequence] = []
        self.num_preempted = 0

    def __bool__(self) -> bool:
        """Whether there is work."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out a waiting or running sequence; its tokens stay in the prefix cache."""
        if sequence in self._held:
            self._held.remove(sequence)
        elif sequence.kv_seq is None:
            self.waiting.remove(sequence)
        else:
            self._release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Move a running sequence to the front of the queue; its cells may be evicted."""
        self._release(sequence)
        self.waiting.appendleft(sequence)
        self.num_preempted += 1

    def hold(self, sequence: Sequence, *, is_held: bool) -> None:
        """Take a sequence out until it is let in again, before the waiting ones; others may run and
        evict its cells meanwhile."""
        if is_held == (sequence in self._held):
            return
        if is_held:
            self.remove(sequence)
            self._held.append(sequence)
        else:
            self._held.remove(sequence)
            self.waiting.appendleft(sequence)

    def restart(self, sequence: Sequence) -> None:
        """Move a running sequence to the front of the queue and drop its corrupt cells."""
        assert sequence.kv_seq is not None
        self._cache.drop(sequence.kv_seq)
        sequence.kv_seq = None
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)

    def next_batch(self, prompt_rows: Callable[[int], int]) -> list[Chunk]:
        """The rows of the next step: one row for every decoding stream, then prompt chunks.

        `prompt_rows`: prompt tokens per step that the given number of streams past their first
        tokens allow; called only if there are prompts beside decoding streams.
        """
        self._admit()
        if self.running:
            self._cache.offload_released()
        while not self._cache.reserve(len(self.running)) and len(self.running) > 1:
            self.preempt(self.running[-1])  # there is no cell for one more row of every sequence
        decoding = [Chunk(seq, 1) for seq in self.running if seq.pending == 1]
        if len(decoding) == len(self.running):
            return decoding
        budget = self._rows - len(decoding)
        if decoding:
            budget = min(budget, prompt_rows(sum(seq.past_first_token for seq in self.running)))
        return decoding + self._prompt_chunks(budget, len(decoding))

    def _prompt_chunks(self, budget: int, num_reserved: int) -> list[Chunk]:
        """Chunks of together at most `budget` tokens, in order of admission."""
        chunks: list[Chunk] = []
        for seq in self.running:
            if seq.pending == 1 or budget <= 0:
                continue
            count = seq.next_chunk(budget)
            if not self._cache.reserve(num_reserved + count):
                break
            chunks.append(Chunk(seq, count))
            budget -= count
            num_reserved += count
        return chunks

    def _admit(self) -> None:
        """Start the sequences whose whole prompt fits beside one more token of every sequence.

        A sequence whose prefix is being computed waits for it, and later ones may overtake it.
        """
        if not self.waiting or len(self.running) >= self._slots:
            return
        cells = self._cache.num_available() - sum(seq.pending + 1 for seq in self.running)
        for seq in list(self.waiting):
            if len(self.running) >= self._slots:
                return
            if self._is_being_computed(seq):
                continue
            cells -= len(seq.tokens) + 1
            if self.running and cells < 0:
                return
            self._start(seq)

    def _start(self, seq: Sequence) -> None:
        self.waiting.remove(seq)
        if self._cache.needs_checkpoints:
            seq.checkpoint_at += [self._cache.shared(seq.tokens), len(seq.tokens) - 1]
        seq.kv_seq = self._cache.open(seq.tokens)
        if not seq.output_tokens:
            seq.num_reused = seq.cached
        self.running.append(seq)

    def _is_being_computed(self, seq: Sequence) -> bool:
        """Whether a running prompt will add MIN_SHARED_TOKENS or more to the reusable prefix."""
        computing = [other for other in self.running if other.pending > 1]
        if not computing:
            return False
        reusable = self._cache.reusable(seq.tokens)
        for other in computing:
            common = min(common_prefix(seq.tokens, other.tokens), len(seq.tokens) - 1)
            if common >= reusable + MIN_SHARED_TOKENS and other.cached < common:
                if self._cache.needs_checkpoints and common not in other.checkpoint_at:
                    other.checkpoint_at.append(common)
                return True
        return False

    def _release(self, sequence: Sequence) -> None:
        assert sequence.kv_seq is not None
        self.running.remove(sequence)
        self._cache.release(sequence.kv_seq)
        sequence.kv_seq = None
