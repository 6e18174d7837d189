"""Which tokens need not be computed again: prefixes that the KV cache still has.

A sequence id keeps its cells when its request ends (it is released) until the id or the cells are
needed; the least recently used one is evicted first. A new request starts from the longest prefix
in any sequence, released or busy: a pure continuation uses the same id, everything else
gets a fork, which costs no cells in the unified cache (GUIDE 5.1). With plain attention a prefix
may end anywhere. A window or a recurrent state is valid only near its own end; there, checkpoints
at branching points and before the last token of a prompt make shorter prefixes reusable (GUIDE 4).

Every row of a decode attends over all cells in use, whichever sequence they belong to: 4,000 cells
of released sequences slow a small model on a CPU by a third (measured). So released sequences move
to the host cache while others run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from ...errors import DecodeFailed
from ..llama.interface import KVMemory
from .cached_sequence import CachedSequence, Checkpoint, HostCopy, common_prefix, starts_with
from .cell_allocator import CellAllocator
from .host_cache import HostCache

# Bytes of all checkpoints together.
MAX_CHECKPOINT_BYTES = 1 << 30
# Tokens. To compute a shorter prefix takes no longer than to restore its checkpoint.
MIN_CHECKPOINT_TOKENS = 64
# Tokens that a restored sequence must save, and must have to be saved at all. To copy a short
# sequence there and back takes 0.4 ms, to compute one token of SmolLM2 135M 2 ms (2 cores).
MIN_HOST_TOKENS = 4
# A restored sequence must save one of so many of its tokens: to copy one takes 5 microseconds (as
# above), and its rows are attended to until it is offloaded.
RESTORE_DIVISOR = 128
# A released sequence is continued, not forked, if that discards at most the reused tokens divided
# by this number.
CONTINUE_DIVISOR = 8

log = logging.getLogger("outrider.runner")


class TrimMode(Enum):
    """Where a sequence of this model can be truncated (GUIDE 4.5)."""

    ANYWHERE = auto()  # plain attention
    WINDOW = auto()  # sliding-window layers have only their newest positions
    END = auto()  # recurrent layers have only their newest state


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """A reusable prefix: the first `count` tokens of a sequence, from a checkpoint if it is set."""

    kv_seq: CachedSequence
    count: int
    checkpoint: Checkpoint | None = None


class PrefixCache:
    """The sequence ids and cells of one context, and the prefixes in them."""

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
        """`host_cache_bytes`: host memory for evicted sequences; 0 where copies are slow (GPUs)."""
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
        """The longest reusable prefix. The last token is never part of it: its row has the logits
        for the first new token."""
        text = np.asarray(tokens[:-1], np.int32)
        matches = [PrefixMatch(s, *self._reusable_part(s, text)) for s in self._kv_seqs]
        found = [match for match in matches if match.count > 0]
        return max(found, key=lambda m: (m.count, _is_whole(m)), default=None)

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many first tokens need not be computed, in the KV cache or in the host cache."""
        match, (_, num_on_host) = self.match(tokens), self._find_in_host_cache(tokens)
        return max(match.count if match else 0, num_on_host)

    def shared(self, tokens: Sequence[int]) -> int:
        """How many first tokens another text has, too, reusable or not: the branching point."""
        text = np.asarray(tokens[:-1], np.int32)
        known = *self._kv_seqs, *self._host_cache
        return max((common_prefix(text, s.tokens) for s in known), default=0)

    def num_available(self) -> int:
        """Cells that no busy sequence uses; those of released sequences can be evicted."""
        busy = [np.asarray(s.cells, np.int32) for s in self._kv_seqs if s.is_busy]
        return self._cells.count - (np.unique(np.concatenate(busy)).size if busy else 0)

    def open(self, tokens: Sequence[int]) -> CachedSequence:
        """A sequence id for this text, which starts with the longest reusable prefix.

        The caller keeps the number of busy ids below the number of all ids.
        """
        self._load_from_host(tokens)
        match = self.match(tokens)
        has_spare = self._free_seqs or self._lru_released(but=match.kv_seq if match else None)
        if match and (_can_continue(match) or not has_spare):
            return self._continue(match)
        kv_seq = CachedSequence(self._allocate_seq(keep=match.kv_seq if match else None))
        self._kv_seqs.append(kv_seq)
        if match:
            self._fork(match, kv_seq)
        return kv_seq

    def reserve(self, count: int) -> bool:
        """Evict released sequences until `count` cells are free; False if that does not suffice."""
        while self._cells.num_free < count:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        """Evict the least recently used released sequence; False if there is none."""
        victim = self._lru_released()
        if victim:
            self._evict_to_host(victim)
        return victim is not None

    def offload_released(self) -> None:
        """Move all released sequences to the host cache, if there is one."""
        if self._host_cache.size_bytes:
            while self.evict():
                pass

    def drop_released(self) -> None:
        """Drop all released sequences, whose states may be corrupt."""
        for kv_seq in self._released():
            self.drop(kv_seq)

    def extend(self, kv_seq: CachedSequence, tokens: Iterable[int]) -> None:
        """Record that these tokens were evaluated; their cells were reserved."""
        before = len(kv_seq.tokens)
        kv_seq.host_copy, kv_seq.is_rolled_back = None, False
        kv_seq.tokens.extend(tokens)
        kv_seq.cells.extend(self._cells.allocate(len(kv_seq.tokens) - before))

    def roll_back(self, kv_seq: CachedSequence) -> None:
        """Remove what was evaluated beyond the recorded tokens: rejected drafts."""
        self._memory.truncate(kv_seq.seq, len(kv_seq.tokens))
        kv_seq.is_rolled_back = True

    def checkpoint(self, kv_seq: CachedSequence) -> None:
        """Save the state after the newest token, if that fits MAX_CHECKPOINT_BYTES."""
        count = len(kv_seq.tokens)
        if count < MIN_CHECKPOINT_TOKENS or any(c.count == count for c in kv_seq.checkpoints):
            return
        state = self._memory.save(kv_seq.seq)
        self._evict_checkpoints(len(state))
        if len(state) <= MAX_CHECKPOINT_BYTES:
            kv_seq.checkpoints.append(Checkpoint(count, state))

    def release(self, kv_seq: CachedSequence) -> None:
        """The request is over; its tokens stay until they are evicted."""
        kv_seq.is_busy = False
        self._touch(kv_seq)
        for other in self._released():
            if other is not kv_seq and starts_with(kv_seq.tokens, other.tokens):
                known = {c.count for c in kv_seq.checkpoints}
                kv_seq.checkpoints += [c for c in other.checkpoints if c.count not in known]
                self.drop(other)

    def drop(self, kv_seq: CachedSequence) -> None:
        """Free the id and the cells of a sequence."""
        self._memory.clear(kv_seq.seq)
        self._cells.free(kv_seq.cells)
        self._free_seqs.append(kv_seq.seq)
        self._kv_seqs.remove(kv_seq)

    def _evict_to_host(self, kv_seq: CachedSequence) -> None:
        """Free a released sequence, and keep a copy in the host cache if that may pay."""
        if self._host_cache.size_bytes and len(kv_seq.tokens) >= MIN_HOST_TOKENS:
            self._host_cache.put(kv_seq.host_copy or self._copy_to_host(kv_seq))
        self.drop(kv_seq)

    def _copy_to_host(self, kv_seq: CachedSequence) -> HostCopy:
        return HostCopy(
            tokens=kv_seq.tokens,
            checkpoints=tuple(kv_seq.checkpoints),
            first_position=self._memory.first_position(kv_seq.seq),
            state=self._memory.save(kv_seq.seq, whole=True),
        )

    def _find_in_host_cache(self, tokens: Sequence[int]) -> tuple[HostCopy | None, int]:
        """The saved sequence with the longest reusable prefix, and the length of that."""
        text = np.asarray(tokens[:-1], np.int32)
        counts = [(s, self._reusable_part(s, text)[0]) for s in self._host_cache]
        return max(counts, key=lambda found: found[1], default=(None, 0))

    def _load_from_host(self, tokens: Sequence[int]) -> None:
        """Restore the best saved sequence, as a released one, if its prefix is so much longer than
        the best one in the KV cache that the copy takes less time than the missing tokens."""
        host_copy, count = self._find_in_host_cache(tokens)
        if host_copy is None:
            return
        match = self.match(tokens)
        saved = count - (match.count if match else 0)
        if saved < max(MIN_HOST_TOKENS, len(host_copy.tokens) // RESTORE_DIVISOR):
            return
        self._host_cache.pop(host_copy)
        if not self.reserve(len(host_copy.tokens)):
            return
        seq = self._allocate_seq(keep=None)
        try:
            self._memory.restore(seq, host_copy.state, whole=True)
        except DecodeFailed as error:
            log.warning("a prefix of %d tokens is computed again: %s", len(host_copy.tokens), error)
            self._memory.clear(seq)
            self._free_seqs.append(seq)
            return
        kv_seq = CachedSequence(seq, tokens=host_copy.tokens[:], is_busy=False, host_copy=host_copy)
        kv_seq.cells.extend(self._cells.allocate(len(host_copy.tokens)))
        kv_seq.checkpoints = list(host_copy.checkpoints)
        self._kv_seqs.append(kv_seq)
        self._touch(kv_seq)

    def _reusable_part(
        self, source: CachedSequence | HostCopy, text: NDArray[np.int32]
    ) -> tuple[int, Checkpoint | None]:
        """How many first tokens of a text can be reused, and from which checkpoint."""
        count = common_prefix(text, source.tokens)
        if self._is_valid_at(source, count):
            return count, None
        fitting = [c for c in source.checkpoints if c.count <= count]
        best = max(fitting, key=lambda c: c.count, default=None)
        return (best.count if best else 0), best

    def _is_valid_at(self, source: CachedSequence | HostCopy, count: int) -> bool:
        """Whether a sequence is valid after a truncation to `count` tokens."""
        if count == len(source.tokens) or self._trim_mode is TrimMode.ANYWHERE:
            return True
        if self._trim_mode is TrimMode.END:
            return False
        if isinstance(source, HostCopy):
            first = source.first_position
        else:
            first = self._memory.first_position(source.seq)
        return first == 0 or first <= count - self._window + 1  # GUIDE 4.2

    def _continue(self, match: PrefixMatch) -> CachedSequence:
        """Go on with the released sequence itself, truncated to the match."""
        kv_seq, count = match.kv_seq, match.count
        kv_seq.is_busy, kv_seq.host_copy = True, None
        self._touch(kv_seq)
        if match.checkpoint:
            self._memory.restore(kv_seq.seq, match.checkpoint.state)
        if count < len(kv_seq.tokens):
            self._memory.truncate(kv_seq.seq, count)
            self._cells.free(kv_seq.cells[count:])
            del kv_seq.tokens[count:], kv_seq.cells[count:]
            kv_seq.checkpoints = [c for c in kv_seq.checkpoints if c.count <= count]
        return kv_seq

    def _fork(self, match: PrefixMatch, target: CachedSequence) -> None:
        """Let an empty sequence share the cells of the match."""
        source, count = match.kv_seq, match.count
        self._touch(source)
        self._touch(target)
        if source.is_rolled_back and self._trim_mode is TrimMode.END:
            # A copy would get the state from before the rollback, which only the next decode of
            # the source applies (GUIDE 4.4).
            self._memory.restore(source.seq, self._memory.save(source.seq))
            source.is_rolled_back = False
        self._memory.copy(source.seq, target.seq, count)
        target.tokens = source.tokens[:count]
        target.cells = source.cells[:count]
        self._cells.share(target.cells)
        target.checkpoints = [c for c in source.checkpoints if c.count <= count]
        if self.needs_checkpoints and not match.checkpoint:
            self.checkpoint(target)  # a branching point, so further texts may branch here
        if match.checkpoint:
            self._memory.restore(target.seq, match.checkpoint.state)
        elif self._trim_mode is TrimMode.WINDOW:
            # Shared window cells are never recycled; a round trip gives the copy its own
            # (GUIDE 4.3).
            self._memory.restore(target.seq, self._memory.save(target.seq))

    def _allocate_seq(self, keep: CachedSequence | None) -> int:
        if not self._free_seqs:
            victim = self._lru_released(but=keep)
            assert victim, "every sequence id is busy"
            self._evict_to_host(victim)
        return self._free_seqs.pop()

    def _released(self) -> list[CachedSequence]:
        return [s for s in self._kv_seqs if not s.is_busy]

    def _lru_released(self, but: CachedSequence | None = None) -> CachedSequence | None:
        released = (s for s in self._released() if s is not but)
        return min(released, key=lambda s: s.last_used, default=None)

    def _evict_checkpoints(self, size_bytes: int) -> None:
        """Make room for a checkpoint of this size, the least recently used sequences first."""
        room = MAX_CHECKPOINT_BYTES - size_bytes
        for kv_seq in sorted(self._kv_seqs, key=lambda s: s.last_used):
            while kv_seq.checkpoints and self._checkpoint_bytes() > room:
                kv_seq.checkpoints.pop(0)

    def _checkpoint_bytes(self) -> int:
        """Bytes of all checkpoints; forks share theirs."""
        states = {id(c): len(c.state) for s in self._kv_seqs for c in s.checkpoints}
        return sum(states.values())

    def _touch(self, kv_seq: CachedSequence) -> None:
        self._clock += 1
        kv_seq.last_used = self._clock


def _can_continue(match: PrefixMatch) -> bool:
    """Whether the sequence is released, and little of it would be discarded."""
    num_discarded = len(match.kv_seq.tokens) - match.count
    return not match.kv_seq.is_busy and num_discarded <= match.count // CONTINUE_DIVISOR


def _is_whole(match: PrefixMatch) -> bool:
    """Whether the match is all of a released sequence."""
    kv_seq = match.kv_seq
    return not kv_seq.is_busy and match.count == len(kv_seq.tokens)
