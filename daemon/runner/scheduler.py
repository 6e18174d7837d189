"""Who is in the next batch: admission, prompt chunks, and who gives way for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .kv.cached_sequence import common_prefix
from .kv.prefix_cache import PrefixCache
from .sequence import Sequence

WORTH_WAITING = 32  # tokens of a prefix that another request is just computing


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `count` pending tokens of a sequence; it is drawn from if none stay pending."""

    sequence: Sequence
    count: int

    @property
    def is_last(self) -> bool:
        return self.count == self.sequence.pending


class Scheduler:
    """Shares slots and KV cells among the requests, first come, first served.

    No llama.cpp and no clock: what lies in the KV cache is the PrefixCache's business, how many
    prompt rows go beside decoding streams is told with each batch.
    """

    def __init__(self, cache: PrefixCache, *, slots: int, rows: int) -> None:
        """`slots`: sequences that run at a time; `rows`: of one decode."""
        self._cache = cache
        self._slots = slots
        self._rows = rows
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in order of admission
        self.num_preempted = 0

    def __bool__(self) -> bool:
        """Whether there is work."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; what it computed stays for others."""
        if sequence.kv_seq is None:
            self.waiting.remove(sequence)
        else:
            self._release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Back to the front of the queue; its tokens stay, its cells may be taken."""
        self._release(sequence)
        self.waiting.appendleft(sequence)
        self.num_preempted += 1

    def restart(self, sequence: Sequence) -> None:
        """Back to the front of the queue, because what its sequence id holds is not sound."""
        assert sequence.kv_seq is not None
        self._cache.drop(sequence.kv_seq)
        sequence.kv_seq = None
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)

    def next_batch(self, prompt_rows: Callable[[int], int]) -> list[Chunk]:
        """The rows of the next step: every stream's own row first, then prompt chunks.

        `prompt_rows`: how many prompt tokens may go beside so many flowing streams; asked if there
        are any, and decoding streams.
        """
        self._admit()
        if self.running:
            self._cache.offload_released()
        self._make_room()
        decoding = [Chunk(seq, 1) for seq in self.running if seq.pending == 1]
        if len(decoding) == len(self.running):
            return decoding
        room = self._rows - len(decoding)
        if decoding:
            room = min(room, prompt_rows(sum(seq.past_first_token for seq in self.running)))
        return decoding + self._prompt_chunks(room, len(decoding))

    def _prompt_chunks(self, room: int, num_reserved: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        for seq in self.running:
            if seq.pending == 1 or room <= 0:
                continue
            count = seq.next_chunk(room)
            if not self._cache.reserve(num_reserved + count):
                break
            chunks.append(Chunk(seq, count))
            room -= count
            num_reserved += count
        return chunks

    def _make_room(self) -> None:
        """The youngest give way until every running stream can take one more row."""
        while not self._cache.reserve(len(self.running)) and len(self.running) > 1:
            self.preempt(self.running[-1])

    def _admit(self) -> None:
        """Start those whose whole prompt, and one token of everybody, fits.

        One whose prefix another is just computing waits for it, and lets others pass.
        """
        if not self.waiting or len(self.running) >= self._slots:
            return
        room = self._cache.num_available() - sum(seq.pending + 1 for seq in self.running)
        for seq in list(self.waiting):
            if len(self.running) >= self._slots:
                return
            if self._is_being_computed(seq):
                continue
            room -= len(seq.tokens) + 1
            if self.running and room < 0:
                return
            self._start(seq)

    def _start(self, seq: Sequence) -> None:
        self.waiting.remove(seq)
        if self._cache.needs_checkpoints:
            seq.marks += [self._cache.shared(seq.tokens), len(seq.tokens) - 1]
        seq.kv_seq = self._cache.open(seq.tokens)
        if not seq.output_tokens:
            seq.num_reused = seq.cached
        self.running.append(seq)

    def _is_being_computed(self, seq: Sequence) -> bool:
        """Whether a running prompt will soon have more of this one's prefix than there is now."""
        computing = [other for other in self.running if other.pending > 1]
        if not computing:
            return False
        have = self._cache.reusable(seq.tokens)
        for other in computing:
            common = min(common_prefix(seq.tokens, other.tokens), len(seq.tokens) - 1)
            if common >= have + WORTH_WAITING and other.cached < common:
                if self._cache.needs_checkpoints and common not in other.marks:
                    other.marks.append(common)
                return True
        return False

    def _release(self, sequence: Sequence) -> None:
        assert sequence.kv_seq is not None
        self.running.remove(sequence)
        self._cache.release(sequence.kv_seq)
        sequence.kv_seq = None
