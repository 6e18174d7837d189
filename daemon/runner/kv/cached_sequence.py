"""What does one sequence id of the KV cache contain, and what of it can be saved to the host?"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..llama.interface import State

Tokens: TypeAlias = "Sequence[int] | array[int] | NDArray[np.int32]"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The window or recurrent state after `count` tokens."""

    count: int
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class HostCopy:
    """A copy of a whole sequence in host memory."""

    tokens: array[int]
    checkpoints: tuple[Checkpoint, ...]
    first_position: int  # the oldest position that every layer still had
    state: State

    @property
    def size_bytes(self) -> int:
        return len(self.state) + sum(len(c.state) for c in self.checkpoints)


@dataclass(slots=True, eq=False)
class CachedSequence:
    """One sequence id and what was evaluated in it."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    cells: array[int] = field(default_factory=lambda: array("i"))  # one for each token
    checkpoints: list[Checkpoint] = field(default_factory=list)
    is_busy: bool = True  # a request runs on it; otherwise it is released
    is_rolled_back: bool = False  # rejected drafts were removed, and nothing evaluated since
    last_used: int = 0  # on the cache's own clock; the smallest is evicted first
    host_copy: HostCopy | None = None  # where it was loaded from, while both are equal


def common_prefix(first: Tokens, second: Tokens) -> int:
    """How many tokens two texts share from their start."""
    length = min(len(first), len(second))
    differs = np.asarray(first[:length], np.int32) != np.asarray(second[:length], np.int32)
    return int(differs.argmax()) if differs.any() else length


def starts_with(tokens: array[int], prefix: array[int]) -> bool:
    """Whether one text starts with all of another."""
    return len(prefix) <= len(tokens) and prefix == tokens[: len(prefix)]
