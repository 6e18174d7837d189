"""How do unit tests stand in for llama.cpp's memory, with the rules that it enforces?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from outrider.daemon.runner.kv.prefix_cache import TrimMode
from outrider.daemon.runner.llama.interface import State


class Refused(Exception):
    """llama.cpp would have refused, asserted, or gone on with a state that is not sound."""


@dataclass(slots=True)
class FakeSequence:
    """The contents of one sequence id: a cell per token, and the state of the other layers."""

    cells: list[int] = field(default_factory=list)
    state: list[int] = field(default_factory=list)  # the tokens that it was computed from
    first: int = 0  # the oldest position that a sliding window still has
    is_rolled_back: bool = False  # cells were removed, the state not yet


class FakeMemory:
    """The memory of one context: which sequence has which tokens, and in which cells.

    A copied cell is shared and counts once. The last `max_rollback` tokens of a sequence can be
    taken back: with `TrimMode.WINDOW` the window keeps so many positions more than the next token
    needs; with `TrimMode.END` the state goes back with the next decode (GUIDE 4.4).
    """

    def __init__(
        self,
        *,
        seqs: int,
        cells: int,
        trim_mode: TrimMode,
        window: int = 0,
        max_rollback: int = 0,
    ) -> None:
        self.num_cells = cells
        self._trim_mode = trim_mode
        self._window = window
        self._max_rollback = max_rollback
        self._sequences = [FakeSequence() for _ in range(seqs)]
        self._token_of: list[int] = []  # by cell; a number is never given twice

    @property
    def num_cells_used(self) -> int:
        return len({cell for sequence in self._sequences for cell in sequence.cells})

    def tokens(self, seq: int) -> list[int]:
        """The tokens of a sequence."""
        return [self._token_of[cell] for cell in self._sequences[seq].cells]

    def evaluate(self, seq: int, position: int, tokens: Sequence[int]) -> None:
        """Add further tokens to a sequence."""
        own = self._sequences[seq]
        if position != len(own.cells):
            raise Refused(f"position {position} after {len(own.cells)} tokens")
        if own.is_rolled_back:
            del own.state[position:]
            own.is_rolled_back = False
        if self._trim_mode is not TrimMode.ANYWHERE and own.state != self.tokens(seq):
            raise Refused(f"the state of {seq} is that of {len(own.state)} tokens, not {position}")
        if own.first > self._first_needed(position):
            raise Refused(f"the window of {seq} begins at {own.first}, too late for {position}")
        own.cells.extend(self._allocate(tokens))
        own.state.extend(tokens)
        own.first = max(own.first, self._first_needed(len(own.cells) - self._max_rollback))

    def clear(self, seq: int) -> None:
        self._sequences[seq] = FakeSequence()

    def copy(self, source: int, target: int, count: int) -> None:
        origin = self._sequences[source]
        if self._sequences[target].cells or not 0 < count <= len(origin.cells):
            raise Refused(f"copying {count} of {len(origin.cells)} tokens of {source} to {target}")
        whole = self._trim_mode is TrimMode.END  # a recurrent state is copied as it is now
        state = origin.state[:] if whole else origin.state[:count]
        self._sequences[target] = FakeSequence(origin.cells[:count], state, origin.first)

    def truncate(self, seq: int, count: int) -> None:
        own = self._sequences[seq]
        if self._trim_mode is TrimMode.END:
            if len(own.state) - count > self._max_rollback:
                raise Refused(f"the state of {seq} cannot be rolled back to {count} tokens")
            own.is_rolled_back = len(own.state) > count
        else:
            del own.state[count:]
        del own.cells[count:]

    def first_position(self, seq: int) -> int:
        own = self._sequences[seq]
        return own.first if own.cells else -1

    def num_cached(self, seq: int) -> int:
        return len(self._sequences[seq].cells)

    def save(self, seq: int, *, whole: bool = False) -> State:
        own = self._sequences[seq]
        tokens = self.tokens(seq) if whole else []
        state = own.state[: len(own.cells)] if own.is_rolled_back else own.state
        return np.frombuffer(json.dumps([state, own.first, tokens]).encode(), np.uint8)

    def restore(self, seq: int, state: State, *, whole: bool = False) -> None:
        own = self._sequences[seq]
        own.state, own.first, tokens = json.loads(state.tobytes())
        own.is_rolled_back = False
        if not whole:
            return
        if own.cells:
            raise Refused(f"sequence {seq} is not empty")
        own.cells.extend(self._allocate(tokens))

    def corrupt(self) -> None:
        """Spoil the recurrent states of all sequences, as an aborted decode may (GUIDE 10.2)."""
        for own in self._sequences:
            own.state = [-1] * len(own.state)

    def _allocate(self, tokens: Sequence[int]) -> range:
        """Fresh cells for these tokens."""
        if self.num_cells_used + len(tokens) > self.num_cells:
            raise Refused(f"{len(tokens)} tokens, but {self.num_cells_used} cells are used")
        cells = range(len(self._token_of), len(self._token_of) + len(tokens))
        self._token_of.extend(tokens)
        return cells

    def _first_needed(self, position: int) -> int:
        """The oldest position that a window layer attends to for the token at this position."""
        return max(position - self._window + 1, 0) if self._trim_mode is TrimMode.WINDOW else 0
