"""Which runners have work and give no sign of progress?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from .pool import LoadedModel

# The front ends a runner that hangs long before this; a step of a large model on a slow processor
# takes seconds, a large batch of embeddings a few minutes.
STUCK_S = 600.0


@runtime_checkable
class ReportsProgress(Protocol):
    """A runner that tells how long it has been silent."""

    @property
    def silent_s(self) -> float:
        """Seconds for which the runner has had work and sent nothing; 0 without work."""
        ...


def find_stuck(loaded_models: Iterable[LoadedModel], limit_s: float = STUCK_S) -> list[str]:
    """The names of the models whose runners have been silent over their work for too long."""
    return [
        loaded.spec.name
        for loaded in loaded_models
        if isinstance(loaded.runner, ReportsProgress) and loaded.runner.silent_s > limit_s
    ]
