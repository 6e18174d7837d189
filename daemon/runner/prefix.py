"""Which tokens need not be computed again: prefixes that the KV cache still holds.

A sequence id keeps what it holds when its request is over (it is parked), until its id or its cells
are needed. A new request starts from the longest prefix that any id holds, parked or busy: a pure
continuation takes the id over, anything else gets a copy, which costs no cells in the unified cache
(guide 5.1). Plain attention can be cut anywhere. A window or a recurrent state is only valid near
its own end; there, checkpoints at the places where texts part make a cut possible (guide 4).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

import numpy as np

from .cells import CellPool

CHECKPOINT_BYTES = 1 << 30  # of all checkpoints together
MIN_CHECKPOINT_TOKENS = 64  # a shorter prefix is computed again as fast as it is restored


class Recall(Enum):
    """How far back a model's memory can be cut (guide 4.5)."""

    ANYWHERE = auto()  # plain attention
    WINDOW = auto()  # sliding-window layers forget what lies behind
    END = auto()  # recurrent layers know only where they are


class Memory(Protocol):
    """What the cache asks of llama.cpp."""

    def clear(self, seq: int) -> None: ...
    def copy(self, source: int, target: int, count: int) -> None: ...
    def truncate(self, seq: int, count: int) -> None: ...
    def first_position(self, seq: int) -> int: ...
    def save(self, seq: int) -> bytes: ...
    def restore(self, seq: int, state: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Window or recurrent state after `count` tokens."""

    count: int
    state: bytes


@dataclass(slots=True, eq=False)
class Holding:
    """What one sequence id of the KV cache holds."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    cells: array[int] = field(default_factory=lambda: array("i"))  # one for each token
    checkpoints: list[Checkpoint] = field(default_factory=list)
    is_busy: bool = True
    used_at: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """A reusable prefix: `count` tokens of a holding, by way of a checkpoint if need be."""

    holding: Holding
    count: int
    checkpoint: Checkpoint | None = None


def common_prefix(first: Sequence[int] | array[int], second: Sequence[int] | array[int]) -> int:
    """How many tokens two texts share from their start."""
    length = min(len(first), len(second))
    differs = np.asarray(first[:length], np.int32) != np.asarray(second[:length], np.int32)
    return int(differs.argmax()) if differs.any() else length


class PrefixCache:
    """The sequence ids and cells of one context, and what lies in them."""

    def __init__(
        self, memory: Memory, *, seqs: int, cells: int, recall: Recall, window: int = 0
    ) -> None:
        self._memory = memory
        self._recall = recall
        self._window = window
        self._pool = CellPool(cells)
        self._free_seqs = list(range(seqs - 1, -1, -1))
        self._holdings: list[Holding] = []
        self._clock = 0

    @property
    def num_cells_used(self) -> int:
        return self._pool.count - self._pool.num_free

    @property
    def needs_checkpoints(self) -> bool:
        return self._recall is not Recall.ANYWHERE

    def match(self, tokens: Sequence[int]) -> Match | None:
        """The longest reusable prefix, short of the last token: that one gives the logits."""
        text = np.asarray(tokens[:-1], np.int32)
        matches = (self._usable(h, common_prefix(text, h.tokens)) for h in self._holdings)  # type: ignore[arg-type]
        found = [match for match in matches if match.count > 0]
        return max(found, key=lambda m: (m.count, _continues(m)), default=None)

    def shared(self, tokens: Sequence[int]) -> int:
        """How many first tokens some holding has too, reusable or not: where texts part."""
        text = np.asarray(tokens[:-1], np.int32)
        return max((common_prefix(text, h.tokens) for h in self._holdings), default=0)  # type: ignore[arg-type]

    def num_available(self) -> int:
        """Cells that no busy sequence holds; the parked ones give theirs when asked."""
        busy = [np.asarray(h.cells, np.int32) for h in self._holdings if h.is_busy]
        return self._pool.count - (np.unique(np.concatenate(busy)).size if busy else 0)

    def open(self, tokens: Sequence[int]) -> Holding:
        """A sequence id for this text, which starts with the longest prefix to be had.

        The caller keeps the number of busy ids below the number of all ids.
        """
        match = self.match(tokens)
        if match and (_continues(match) or not self._has_spare_seq(match.holding)):
            return self._take_over(match)
        holding = Holding(self._next_seq(keep=match.holding if match else None))
        self._holdings.append(holding)
        if match:
            self._copy(match, holding)
        return holding

    def reserve(self, count: int) -> bool:
        """Make so many cells free, at the cost of parked holdings, the longest unused first."""
        while self._pool.num_free < count:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        """Forget the parked holding that was not used for the longest time."""
        oldest = self._oldest_parked()
        if oldest:
            self.drop(oldest)
        return oldest is not None

    def extend(self, holding: Holding, tokens: Iterable[int]) -> None:
        """These tokens were evaluated; their cells were reserved."""
        before = len(holding.tokens)
        holding.tokens.extend(tokens)
        holding.cells.extend(self._pool.take(len(holding.tokens) - before))

    def checkpoint(self, holding: Holding) -> None:
        """Keep the state that the sequence has now, unless there is no room for it."""
        count = len(holding.tokens)
        if count < MIN_CHECKPOINT_TOKENS or any(c.count == count for c in holding.checkpoints):
            return
        state = self._memory.save(holding.seq)
        self._forget_checkpoints(len(state))
        if len(state) <= CHECKPOINT_BYTES:
            holding.checkpoints.append(Checkpoint(count, state))

    def park(self, holding: Holding) -> None:
        """The request is over; what it computed stays for the next one."""
        holding.is_busy = False
        self._touch(holding)
        for other in self._parked():
            if other is not holding and _begins(holding, other):
                known = {c.count for c in holding.checkpoints}
                holding.checkpoints += [c for c in other.checkpoints if c.count not in known]
                self.drop(other)

    def drop(self, holding: Holding) -> None:
        """Forget a holding altogether."""
        self._memory.clear(holding.seq)
        self._pool.drop(holding.cells)
        self._free_seqs.append(holding.seq)
        self._holdings.remove(holding)

    def _usable(self, holding: Holding, count: int) -> Match:
        """What of a common prefix can really be reused."""
        if self._is_valid_at(holding, count):
            return Match(holding, count)
        fitting = [c for c in holding.checkpoints if c.count <= count]
        best = max(fitting, key=lambda c: c.count, default=None)
        return Match(holding, best.count if best else 0, best)

    def _is_valid_at(self, holding: Holding, count: int) -> bool:
        if count == len(holding.tokens) or self._recall is Recall.ANYWHERE:
            return True
        if self._recall is Recall.END:
            return False
        first = self._memory.first_position(holding.seq)
        return first == 0 or first <= count - self._window + 1  # guide 4.2

    def _take_over(self, match: Match) -> Holding:
        holding, count = match.holding, match.count
        holding.is_busy = True
        self._touch(holding)
        if match.checkpoint:
            self._memory.restore(holding.seq, match.checkpoint.state)
        if count < len(holding.tokens):
            self._memory.truncate(holding.seq, count)
            self._pool.drop(holding.cells[count:])
            del holding.tokens[count:], holding.cells[count:]
            holding.checkpoints = [c for c in holding.checkpoints if c.count <= count]
        return holding

    def _copy(self, match: Match, target: Holding) -> None:
        source, count = match.holding, match.count
        self._touch(source)
        self._touch(target)
        self._memory.copy(source.seq, target.seq, count)
        target.tokens = source.tokens[:count]
        target.cells = source.cells[:count]
        self._pool.share(target.cells)
        target.checkpoints = [c for c in source.checkpoints if c.count <= count]
        if self.needs_checkpoints and not match.checkpoint:
            self.checkpoint(target)  # texts part here, so others may start from here too
        if match.checkpoint:
            self._memory.restore(target.seq, match.checkpoint.state)
        elif self._recall is Recall.WINDOW:
            # A shared window cell is never recycled; the round trip gives the copy its own (4.3).
            self._memory.restore(target.seq, self._memory.save(target.seq))

    def _has_spare_seq(self, but: Holding) -> bool:
        return bool(self._free_seqs) or any(h is not but for h in self._parked())

    def _next_seq(self, keep: Holding | None) -> int:
        if not self._free_seqs:
            oldest = self._oldest_parked(but=keep)
            assert oldest, "every sequence id is busy"
            self.drop(oldest)
        return self._free_seqs.pop()

    def _parked(self) -> list[Holding]:
        return [h for h in self._holdings if not h.is_busy]

    def _oldest_parked(self, but: Holding | None = None) -> Holding | None:
        parked = (h for h in self._parked() if h is not but)
        return min(parked, key=lambda h: h.used_at, default=None)

    def _forget_checkpoints(self, size_bytes: int) -> None:
        """Make room for one of this size, the longest unused going first."""
        kept = sorted(self._holdings, key=lambda h: h.used_at)
        states = {id(c): len(c.state) for h in kept for c in h.checkpoints}
        total = sum(states.values())
        for holding in kept:
            while holding.checkpoints and total + size_bytes > CHECKPOINT_BYTES:
                total -= len(holding.checkpoints.pop(0).state)

    def _touch(self, holding: Holding) -> None:
        self._clock += 1
        holding.used_at = self._clock


def _continues(match: Match) -> bool:
    """Whether the match is all that a parked sequence holds: its id can simply go on."""
    holding = match.holding
    return not holding.is_busy and match.count == len(holding.tokens)


def _begins(whole: Holding, part: Holding) -> bool:
    length = len(part.tokens)
    return length <= len(whole.tokens) and part.tokens == whole.tokens[:length]
