"""Which tokens need not be computed again: prefixes that the KV cache still holds.

A sequence id keeps what it holds when its request is over (it is parked), until its id or its cells
are needed. A new request starts from the longest prefix that any id holds, parked or busy: a pure
continuation takes the id over, anything else gets a copy, which costs no cells in the unified cache
(guide 5.1). Plain attention can be cut anywhere. A window or a recurrent state is only valid near
its own end; there, checkpoints at the places where texts part make a cut possible (guide 4).

Every row of a decode pays for every cell in use, whoever holds it: 4,000 parked cells slow a small
model on a CPU by a third. So what is parked while others run moves to the shelf, in host memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np

from ..errors import DecodeFailed
from .cells import CellPool
from .holding import Checkpoint, Holding, Shelved, State, begins, common_prefix
from .shelf import Shelf

CHECKPOINT_BYTES = 1 << 30  # of all checkpoints together
MIN_CHECKPOINT_TOKENS = 64  # a shorter prefix is computed again as fast as it is restored
MIN_SHELVED_TOKENS = 32
REST_SHARE = 8

log = logging.getLogger("outrider.runner")


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
    def save(self, seq: int, *, whole: bool = False) -> State: ...
    def restore(self, seq: int, state: State, *, whole: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Match:
    """A reusable prefix: `count` tokens of a holding, by way of a checkpoint if need be."""

    holding: Holding
    count: int
    checkpoint: Checkpoint | None = None


class PrefixCache:
    """The sequence ids and cells of one context, and what lies in them."""

    def __init__(
        self,
        memory: Memory,
        *,
        seqs: int,
        cells: int,
        recall: Recall,
        window: int = 0,
        host_cache_bytes: int = 0,
    ) -> None:
        """`host_cache_bytes` of host memory for what gives its cells away; 0 where that is slow."""
        self._memory = memory
        self._recall = recall
        self._window = window
        self._pool = CellPool(cells)
        self._free_seqs = list(range(seqs - 1, -1, -1))
        self._holdings: list[Holding] = []
        self._shelf = Shelf(host_cache_bytes)
        self._clock = 0

    @property
    def num_cells_used(self) -> int:
        return self._pool.count - self._pool.num_free

    @property
    def needs_checkpoints(self) -> bool:
        return self._recall is not Recall.ANYWHERE

    def match(self, tokens: Sequence[int]) -> Match | None:
        """The longest prefix that some id holds, short of the last token: that one gives the
        logits."""
        text = np.asarray(tokens[:-1], np.int32)
        matches = [
            Match(h, *self._usable(h, common_prefix(text, h.tokens))) for h in self._holdings
        ]
        found = [match for match in matches if match.count > 0]
        return max(found, key=lambda m: (m.count, _continues(m)), default=None)

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many first tokens need not be computed, wherever they lie."""
        match, (_, shelved) = self.match(tokens), self._on_shelf(tokens)
        return max(match.count if match else 0, shelved)

    def shared(self, tokens: Sequence[int]) -> int:
        """How many first tokens some other text has too, reusable or not: where texts part."""
        text = np.asarray(tokens[:-1], np.int32)
        return max(
            (common_prefix(text, h.tokens) for h in (*self._holdings, *self._shelf)), default=0
        )

    def num_available(self) -> int:
        """Cells that no busy sequence holds; the parked ones give theirs when asked."""
        busy = [np.asarray(h.cells, np.int32) for h in self._holdings if h.is_busy]
        return self._pool.count - (np.unique(np.concatenate(busy)).size if busy else 0)

    def open(self, tokens: Sequence[int]) -> Holding:
        """A sequence id for this text, which starts with the longest prefix to be had.

        The caller keeps the number of busy ids below the number of all ids.
        """
        self._fetch(tokens)
        match = self.match(tokens)
        if match and (self._is_ours(match) or not self._has_spare_seq(match.holding)):
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
        """Free the cells of the parked holding that was not used for the longest time."""
        oldest = self._oldest_parked()
        if oldest:
            self._put_away(oldest)
        return oldest is not None

    def make_way(self) -> None:
        """Leave the cells to those who run, if there is a shelf for all that is parked."""
        if self._shelf.size_bytes:
            while self.evict():
                pass

    def forget(self) -> None:
        """Drop all that is parked in the cells, because it may not be sound."""
        for holding in self._parked():
            self.drop(holding)

    def extend(self, holding: Holding, tokens: Iterable[int]) -> None:
        """These tokens were evaluated; their cells were reserved."""
        before = len(holding.tokens)
        holding.shelved, holding.is_cut = None, False
        holding.tokens.extend(tokens)
        holding.cells.extend(self._pool.take(len(holding.tokens) - before))

    def retract(self, holding: Holding) -> None:
        """More was evaluated than the holding was extended by: guesses that were wrong."""
        self._memory.truncate(holding.seq, len(holding.tokens))
        holding.is_cut = True

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
            if other is not holding and begins(holding.tokens, other.tokens):
                known = {c.count for c in holding.checkpoints}
                holding.checkpoints += [c for c in other.checkpoints if c.count not in known]
                self.drop(other)

    def drop(self, holding: Holding) -> None:
        """Forget a holding altogether."""
        self._memory.clear(holding.seq)
        self._pool.drop(holding.cells)
        self._free_seqs.append(holding.seq)
        self._holdings.remove(holding)

    def _put_away(self, holding: Holding) -> None:
        """To the shelf, if it is worth it."""
        if self._shelf.size_bytes and len(holding.tokens) >= MIN_SHELVED_TOKENS:
            self._shelf.put(holding.shelved or self._shelve(holding))
        self.drop(holding)

    def _shelve(self, holding: Holding) -> Shelved:
        return Shelved(
            tokens=holding.tokens,
            checkpoints=tuple(holding.checkpoints),
            first_position=self._memory.first_position(holding.seq),
            state=self._memory.save(holding.seq, whole=True),
        )

    def _on_shelf(self, tokens: Sequence[int]) -> tuple[Shelved | None, int]:
        """The longest reusable prefix on the shelf, and how long it is."""
        text = np.asarray(tokens[:-1], np.int32)
        counts = [(s, self._usable(s, common_prefix(text, s.tokens))[0]) for s in self._shelf]
        return max(counts, key=lambda found: found[1], default=(None, 0))

    def _fetch(self, tokens: Sequence[int]) -> None:
        """Bring back, as a parked holding, what on the shelf fits better than all in the cells."""
        shelved, count = self._on_shelf(tokens)
        if shelved is None:
            return
        match = self.match(tokens)
        if count < MIN_SHELVED_TOKENS + (match.count if match else 0):
            return
        self._shelf.take(shelved)
        if not self.reserve(len(shelved.tokens)):
            return
        seq = self._next_seq(keep=None)
        try:
            self._memory.restore(seq, shelved.state, whole=True)
        except DecodeFailed as error:
            log.warning("a prefix of %d tokens is computed again: %s", len(shelved.tokens), error)
            self._memory.clear(seq)
            self._free_seqs.append(seq)
            return
        holding = Holding(seq, tokens=shelved.tokens[:], is_busy=False, shelved=shelved)
        holding.cells.extend(self._pool.take(len(shelved.tokens)))
        holding.checkpoints = list(shelved.checkpoints)
        self._holdings.append(holding)
        self._touch(holding)

    def _usable(self, held: Holding | Shelved, count: int) -> tuple[int, Checkpoint | None]:
        """What of a common prefix can really be reused, by way of a checkpoint if need be."""
        if self._is_valid_at(held, count):
            return count, None
        fitting = [c for c in held.checkpoints if c.count <= count]
        best = max(fitting, key=lambda c: c.count, default=None)
        return (best.count if best else 0), best

    def _is_valid_at(self, held: Holding | Shelved, count: int) -> bool:
        if count == len(held.tokens) or self._recall is Recall.ANYWHERE:
            return True
        if self._recall is Recall.END:
            return False
        first = (
            held.first_position
            if isinstance(held, Shelved)
            else self._memory.first_position(held.seq)
        )
        return first == 0 or first <= count - self._window + 1  # guide 4.2

    def _is_ours(self, match: Match) -> bool:
        """Whether to go on with a parked id itself, as little lies beyond."""
        rest = len(match.holding.tokens) - match.count
        return not match.holding.is_busy and rest <= match.count // REST_SHARE

    def _take_over(self, match: Match) -> Holding:
        holding, count = match.holding, match.count
        holding.is_busy, holding.shelved = True, None
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
        if source.is_cut and self._recall is Recall.END:
            # A copy would see the state from before the cut, which the next decode only puts right.
            self._memory.restore(source.seq, self._memory.save(source.seq))
            source.is_cut = False
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
            self._put_away(oldest)
        return self._free_seqs.pop()

    def _parked(self) -> list[Holding]:
        return [h for h in self._holdings if not h.is_busy]

    def _oldest_parked(self, but: Holding | None = None) -> Holding | None:
        parked = (h for h in self._parked() if h is not but)
        return min(parked, key=lambda h: h.used_at, default=None)

    def _forget_checkpoints(self, size_bytes: int) -> None:
        """Make room for one of this size, the longest unused going first."""
        for holding in sorted(self._holdings, key=lambda h: h.used_at):
            while holding.checkpoints and self._checkpoint_bytes() + size_bytes > CHECKPOINT_BYTES:
                holding.checkpoints.pop(0)

    def _checkpoint_bytes(self) -> int:
        """Copies share their checkpoints."""
        states = {id(c): len(c.state) for h in self._holdings for c in h.checkpoints}
        return sum(states.values())

    def _touch(self, holding: Holding) -> None:
        self._clock += 1
        holding.used_at = self._clock


def _continues(match: Match) -> bool:
    """Whether the match is all that a parked sequence holds: its id can simply go on."""
    holding = match.holding
    return not holding.is_busy and match.count == len(holding.tokens)
