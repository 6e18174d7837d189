"""What stands in for llama.cpp where a test is about bookkeeping: memory that minds its rules."""

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
class Held:
    """What one sequence id holds: a cell for each token, and the state of the other layers."""

    cells: list[int] = field(default_factory=list)
    state: list[int] = field(default_factory=list)  # the tokens that it was computed from
    first: int = 0  # the oldest token that a sliding window still has


class FakeMemory:
    """The memory of one context: which sequence holds which tokens, and in which cells.

    A copied cell is shared and counts once. With `Recall.WINDOW` a window keeps no more than the
    next token needs; with `Recall.END` there is one state, which cannot be cut back.
    """

    def __init__(self, *, seqs: int, cells: int, trim_mode: TrimMode, window: int = 0) -> None:
        self._room = cells
        self._trim_mode = trim_mode
        self._window = window
        self._held = [Held() for _ in range(seqs)]
        self._token_of: list[int] = []  # by cell; a number is never given twice

    @property
    def num_cells_used(self) -> int:
        return len({cell for held in self._held for cell in held.cells})

    def tokens(self, seq: int) -> list[int]:
        """What a sequence holds."""
        return [self._token_of[cell] for cell in self._held[seq].cells]

    def decode(self, seq: int, position: int, tokens: Sequence[int]) -> None:
        """Evaluate further tokens of a sequence."""
        held = self._held[seq]
        if position != len(held.cells):
            raise Refused(f"position {position} after {len(held.cells)} tokens")
        if self._trim_mode is not TrimMode.ANYWHERE and held.state != self.tokens(seq):
            raise Refused(f"the state of {seq} is that of {len(held.state)} tokens, not {position}")
        if held.first > self._first_needed(position):
            raise Refused(f"the window of {seq} begins at {held.first}, too late for {position}")
        if self.num_cells_used + len(tokens) > self._room:
            raise Refused(f"{len(tokens)} tokens, but {self.num_cells_used} cells are used")
        fresh = range(len(self._token_of), len(self._token_of) + len(tokens))
        self._token_of.extend(tokens)
        held.cells.extend(fresh)
        held.state.extend(tokens)
        held.first = max(held.first, self._first_needed(len(held.cells)))

    def clear(self, seq: int) -> None:
        self._held[seq] = Held()

    def copy(self, source: int, target: int, count: int) -> None:
        origin = self._held[source]
        if self._held[target].cells or not 0 < count <= len(origin.cells):
            raise Refused(f"copying {count} of {len(origin.cells)} tokens of {source} to {target}")
        whole = self._trim_mode is TrimMode.END  # a recurrent state is copied as it is
        state = origin.state[:] if whole else origin.state[:count]
        self._held[target] = Held(origin.cells[:count], state, origin.first)

    def truncate(self, seq: int, count: int) -> None:
        held = self._held[seq]
        if self._trim_mode is TrimMode.END and len(held.state) > count:
            raise Refused(f"the state of {seq} cannot be cut back to {count} tokens")
        del held.cells[count:], held.state[count:]

    def first_position(self, seq: int) -> int:
        held = self._held[seq]
        return held.first if held.cells else -1

    def save(self, seq: int, *, whole: bool = False) -> State:
        held = self._held[seq]
        tokens = self.tokens(seq) if whole else []
        return np.frombuffer(json.dumps([held.state, held.first, tokens]).encode(), np.uint8)

    def restore(self, seq: int, state: State, *, whole: bool = False) -> None:
        held = self._held[seq]
        held.state, held.first, tokens = json.loads(state.tobytes())
        if not whole:
            return
        if held.cells:
            raise Refused(f"sequence {seq} is not empty")
        if self.num_cells_used + len(tokens) > self._room:
            raise Refused(f"{len(tokens)} tokens, but {self.num_cells_used} cells are used")
        held.cells.extend(range(len(self._token_of), len(self._token_of) + len(tokens)))
        self._token_of.extend(tokens)

    def _first_needed(self, position: int) -> int:
        """The oldest token that a window layer looks at for the token at this position."""
        return max(position - self._window + 1, 0) if self._trim_mode is TrimMode.WINDOW else 0
