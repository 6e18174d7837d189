"""What one sequence id of the KV cache holds, and what of it can lie outside."""

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
    """Window or recurrent state after `count` tokens."""

    count: int
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class HostCachedSequence:
    """All that a sequence id held, in host memory."""

    tokens: array[int]
    checkpoints: tuple[Checkpoint, ...]
    first_position: int  # the oldest token that every layer still held
    state: State

    @property
    def size_bytes(self) -> int:
        return len(self.state) + sum(len(c.state) for c in self.checkpoints)


@dataclass(slots=True, eq=False)
class CachedSequence:
    """What one sequence id holds."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    cells: array[int] = field(default_factory=lambda: array("i"))  # one for each token
    checkpoints: list[Checkpoint] = field(default_factory=list)
    is_busy: bool = True
    is_cut: bool = False  # guesses were taken back, and nothing was evaluated since
    used_at: int = 0
    host_copy: HostCachedSequence | None = None  # where it came from, while it is still the same


def common_prefix(first: Tokens, second: Tokens) -> int:
    """How many tokens two texts share from their start."""
    length = min(len(first), len(second))
    differs = np.asarray(first[:length], np.int32) != np.asarray(second[:length], np.int32)
    return int(differs.argmax()) if differs.any() else length


def begins(whole: array[int], part: array[int]) -> bool:
    """Whether one text starts with all of another."""
    return len(part) <= len(whole) and part == whole[: len(part)]
