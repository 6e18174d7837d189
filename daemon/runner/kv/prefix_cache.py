"""Which tokens need not be computed again: prefixes that the KV cache still holds.

A sequence id keeps what it holds when its request is over (it is parked), until its id or its cells
are needed. A new request starts from the longest prefix that any id holds, parked or busy: a pure
continuation takes the id over, anything else gets a copy, which costs no cells in the unified cache
(GUIDE 5.1). Plain attention can be cut anywhere. A window or a recurrent state is only valid near
its own end; there, checkpoints at the places where texts part make a cut possible (GUIDE 4).

Every row of a decode pays for every cell in use, whoever holds it: 4,000 parked cells slow a small
model on a CPU by a third. So what is parked while others run moves to the shelf, in host memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from ...errors import DecodeFailed
from ..llama.interface import KVMemory
from .cached_sequence import (
    CachedSequence,
    Checkpoint,
    HostCachedSequence,
    begins,
    common_prefix,
)
from .cell_allocator import CellAllocator
from .host_cache import HostCache

CHECKPOINT_BYTES = 1 << 30  # of all checkpoints together
MIN_CHECKPOINT_TOKENS = 64  # a shorter prefix is computed again as fast as it is restored
MIN_HOST_TOKENS = 32
REST_SHARE = 8

log = logging.getLogger("outrider.runner")


class TrimMode(Enum):
    """How far back a model's memory can be cut (GUIDE 4.5)."""

    ANYWHERE = auto()  # plain attention
    WINDOW = auto()  # sliding-window layers forget what lies behind
    END = auto()  # recurrent layers know only where they are


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """A reusable prefix: `count` tokens of a holding, by way of a checkpoint if need be."""

    kv_seq: CachedSequence
    count: int
    checkpoint: Checkpoint | None = None


class PrefixCache:
    """The sequence ids and cells of one context, and what lies in them."""

    def __init__(
        self,
        memory: KVMemory,
        *,
        seqs: int,
        cells: int,
        trim_mode: TrimMode,
        window: int = 0,
        host_cache_bytes: int = 0,
    ) -> None:
        """`host_cache_bytes` of host memory for what gives its cells away; 0 where that is slow."""
        self._memory = memory
        self._trim_mode = trim_mode
        self._window = window
        self._cells = CellAllocator(cells)
        self._free_seqs = list(range(seqs - 1, -1, -1))
        self._kv_seqs: list[CachedSequence] = []
        self._host_cache = HostCache(host_cache_bytes)
        self._clock = 0

    @property
    def num_cells_used(self) -> int:
        return self._cells.count - self._cells.num_free

    @property
    def needs_checkpoints(self) -> bool:
        return self._trim_mode is not TrimMode.ANYWHERE

    def match(self, tokens: Sequence[int]) -> PrefixMatch | None:
        """The longest prefix that some id holds, short of the last token: that one gives the
        logits."""
        text = np.asarray(tokens[:-1], np.int32)
        matches = [
            PrefixMatch(h, *self._usable(h, common_prefix(text, h.tokens))) for h in self._kv_seqs
        ]
        found = [match for match in matches if match.count > 0]
        return max(found, key=lambda m: (m.count, _continues(m)), default=None)

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many first tokens need not be computed, wherever they lie."""
        match, (_, host_copy) = self.match(tokens), self._find_in_host_cache(tokens)
        return max(match.count if match else 0, host_copy)

    def shared(self, tokens: Sequence[int]) -> int:
        """How many first tokens some other text has too, reusable or not: where texts part."""
        text = np.asarray(tokens[:-1], np.int32)
        return max(
            (common_prefix(text, h.tokens) for h in (*self._kv_seqs, *self._host_cache)), default=0
        )

    def num_available(self) -> int:
        """Cells that no busy sequence holds; the parked ones give theirs when asked."""
        busy = [np.asarray(h.cells, np.int32) for h in self._kv_seqs if h.is_busy]
        return self._cells.count - (np.unique(np.concatenate(busy)).size if busy else 0)

    def open(self, tokens: Sequence[int]) -> CachedSequence:
        """A sequence id for this text, which starts with the longest prefix to be had.

        The caller keeps the number of busy ids below the number of all ids.
        """
        self._fetch(tokens)
        match = self.match(tokens)
        if match and (self._is_ours(match) or not self._has_spare_seq(match.kv_seq)):
            return self._take_over(match)
        kv_seq = CachedSequence(self._next_seq(keep=match.kv_seq if match else None))
        self._kv_seqs.append(kv_seq)
        if match:
            self._copy(match, kv_seq)
        return kv_seq

    def reserve(self, count: int) -> bool:
        """Make so many cells free, at the cost of parked holdings, the longest unused first."""
        while self._cells.num_free < count:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        """Free the cells of the parked holding that was not used for the longest time."""
        oldest = self._oldest_released()
        if oldest:
            self._evict_to_host(oldest)
        return oldest is not None

    def offload_released(self) -> None:
        """Leave the cells to those who run, if there is a shelf for all that is parked."""
        if self._host_cache.size_bytes:
            while self.evict():
                pass

    def forget(self) -> None:
        """Drop all that is parked in the cells, because it may not be sound."""
        for kv_seq in self._released():
            self.drop(kv_seq)

    def extend(self, kv_seq: CachedSequence, tokens: Iterable[int]) -> None:
        """These tokens were evaluated; their cells were reserved."""
        before = len(kv_seq.tokens)
        kv_seq.host_copy, kv_seq.is_cut = None, False
        kv_seq.tokens.extend(tokens)
        kv_seq.cells.extend(self._cells.take(len(kv_seq.tokens) - before))

    def retract(self, kv_seq: CachedSequence) -> None:
        """More was evaluated than the holding was extended by: guesses that were wrong."""
        self._memory.truncate(kv_seq.seq, len(kv_seq.tokens))
        kv_seq.is_cut = True

    def checkpoint(self, kv_seq: CachedSequence) -> None:
        """Keep the state that the sequence has now, unless there is no room for it."""
        count = len(kv_seq.tokens)
        if count < MIN_CHECKPOINT_TOKENS or any(c.count == count for c in kv_seq.checkpoints):
            return
        state = self._memory.save(kv_seq.seq)
        self._forget_checkpoints(len(state))
        if len(state) <= CHECKPOINT_BYTES:
            kv_seq.checkpoints.append(Checkpoint(count, state))

    def release(self, kv_seq: CachedSequence) -> None:
        """The request is over; what it computed stays for the next one."""
        kv_seq.is_busy = False
        self._touch(kv_seq)
        for other in self._released():
            if other is not kv_seq and begins(kv_seq.tokens, other.tokens):
                known = {c.count for c in kv_seq.checkpoints}
                kv_seq.checkpoints += [c for c in other.checkpoints if c.count not in known]
                self.drop(other)

    def drop(self, kv_seq: CachedSequence) -> None:
        """Forget a holding altogether."""
        self._memory.clear(kv_seq.seq)
        self._cells.drop(kv_seq.cells)
        self._free_seqs.append(kv_seq.seq)
        self._kv_seqs.remove(kv_seq)

    def _evict_to_host(self, kv_seq: CachedSequence) -> None:
        """To the shelf, if it is worth it."""
        if self._host_cache.size_bytes and len(kv_seq.tokens) >= MIN_HOST_TOKENS:
            self._host_cache.put(kv_seq.host_copy or self._copy_to_host(kv_seq))
        self.drop(kv_seq)

    def _copy_to_host(self, kv_seq: CachedSequence) -> HostCachedSequence:
        return HostCachedSequence(
            tokens=kv_seq.tokens,
            checkpoints=tuple(kv_seq.checkpoints),
            first_position=self._memory.first_position(kv_seq.seq),
            state=self._memory.save(kv_seq.seq, whole=True),
        )

    def _find_in_host_cache(self, tokens: Sequence[int]) -> tuple[HostCachedSequence | None, int]:
        """The longest reusable prefix on the shelf, and how long it is."""
        text = np.asarray(tokens[:-1], np.int32)
        counts = [(s, self._usable(s, common_prefix(text, s.tokens))[0]) for s in self._host_cache]
        return max(counts, key=lambda found: found[1], default=(None, 0))

    def _fetch(self, tokens: Sequence[int]) -> None:
        """Bring back, as a parked holding, what on the shelf fits better than all in the cells."""
        host_copy, count = self._find_in_host_cache(tokens)
        if host_copy is None:
            return
        match = self.match(tokens)
        if count < MIN_HOST_TOKENS + (match.count if match else 0):
            return
        self._host_cache.take(host_copy)
        if not self.reserve(len(host_copy.tokens)):
            return
        seq = self._next_seq(keep=None)
        try:
            self._memory.restore(seq, host_copy.state, whole=True)
        except DecodeFailed as error:
            log.warning("a prefix of %d tokens is computed again: %s", len(host_copy.tokens), error)
            self._memory.clear(seq)
            self._free_seqs.append(seq)
            return
        kv_seq = CachedSequence(seq, tokens=host_copy.tokens[:], is_busy=False, host_copy=host_copy)
        kv_seq.cells.extend(self._cells.take(len(host_copy.tokens)))
        kv_seq.checkpoints = list(host_copy.checkpoints)
        self._kv_seqs.append(kv_seq)
        self._touch(kv_seq)

    def _usable(
        self, held: CachedSequence | HostCachedSequence, count: int
    ) -> tuple[int, Checkpoint | None]:
        """What of a common prefix can really be reused, by way of a checkpoint if need be."""
        if self._is_valid_at(held, count):
            return count, None
        fitting = [c for c in held.checkpoints if c.count <= count]
        best = max(fitting, key=lambda c: c.count, default=None)
        return (best.count if best else 0), best

    def _is_valid_at(self, held: CachedSequence | HostCachedSequence, count: int) -> bool:
        if count == len(held.tokens) or self._trim_mode is TrimMode.ANYWHERE:
            return True
        if self._trim_mode is TrimMode.END:
            return False
        first = (
            held.first_position
            if isinstance(held, HostCachedSequence)
            else self._memory.first_position(held.seq)
        )
        return first == 0 or first <= count - self._window + 1  # GUIDE 4.2

    def _is_ours(self, match: PrefixMatch) -> bool:
        """Whether to go on with a parked id itself, as little lies beyond."""
        rest = len(match.kv_seq.tokens) - match.count
        return not match.kv_seq.is_busy and rest <= match.count // REST_SHARE

    def _take_over(self, match: PrefixMatch) -> CachedSequence:
        kv_seq, count = match.kv_seq, match.count
        kv_seq.is_busy, kv_seq.host_copy = True, None
        self._touch(kv_seq)
        if match.checkpoint:
            self._memory.restore(kv_seq.seq, match.checkpoint.state)
        if count < len(kv_seq.tokens):
            self._memory.truncate(kv_seq.seq, count)
            self._cells.drop(kv_seq.cells[count:])
            del kv_seq.tokens[count:], kv_seq.cells[count:]
            kv_seq.checkpoints = [c for c in kv_seq.checkpoints if c.count <= count]
        return kv_seq

    def _copy(self, match: PrefixMatch, target: CachedSequence) -> None:
        source, count = match.kv_seq, match.count
        self._touch(source)
        self._touch(target)
        if source.is_cut and self._trim_mode is TrimMode.END:
            # A copy would see the state from before the cut, which the next decode only puts right.
            self._memory.restore(source.seq, self._memory.save(source.seq))
            source.is_cut = False
        self._memory.copy(source.seq, target.seq, count)
        target.tokens = source.tokens[:count]
        target.cells = source.cells[:count]
        self._cells.share(target.cells)
        target.checkpoints = [c for c in source.checkpoints if c.count <= count]
        if self.needs_checkpoints and not match.checkpoint:
            self.checkpoint(target)  # texts part here, so others may start from here too
        if match.checkpoint:
            self._memory.restore(target.seq, match.checkpoint.state)
        elif self._trim_mode is TrimMode.WINDOW:
            # A shared window cell is never recycled; the round trip gives the copy its own
            # (GUIDE 4.3).
            self._memory.restore(target.seq, self._memory.save(target.seq))

    def _has_spare_seq(self, but: CachedSequence) -> bool:
        return bool(self._free_seqs) or any(h is not but for h in self._released())

    def _next_seq(self, keep: CachedSequence | None) -> int:
        if not self._free_seqs:
            oldest = self._oldest_released(but=keep)
            assert oldest, "every sequence id is busy"
            self._evict_to_host(oldest)
        return self._free_seqs.pop()

    def _released(self) -> list[CachedSequence]:
        return [h for h in self._kv_seqs if not h.is_busy]

    def _oldest_released(self, but: CachedSequence | None = None) -> CachedSequence | None:
        released = (h for h in self._released() if h is not but)
        return min(released, key=lambda h: h.used_at, default=None)

    def _forget_checkpoints(self, size_bytes: int) -> None:
        """Make room for one of this size, the longest unused going first."""
        for kv_seq in sorted(self._kv_seqs, key=lambda h: h.used_at):
            while kv_seq.checkpoints and self._checkpoint_bytes() + size_bytes > CHECKPOINT_BYTES:
                kv_seq.checkpoints.pop(0)

    def _checkpoint_bytes(self) -> int:
        """Copies share their checkpoints."""
        states = {id(c): len(c.state) for h in self._kv_seqs for c in h.checkpoints}
        return sum(states.values())

    def _touch(self, kv_seq: CachedSequence) -> None:
        self._clock += 1
        kv_seq.used_at = self._clock


def _continues(match: PrefixMatch) -> bool:
    """Whether the match is all that a parked sequence holds: its id can simply go on."""
    kv_seq = match.kv_seq
    return not kv_seq.is_busy and match.count == len(kv_seq.tokens)
