"""Which runners have work and give no sign of progress?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from .loaded_model import LoadedModel

# Seconds. The front ends a runner as soon as it is overdue; if one is still there after so long,
# the front has failed, too.
STUCK_S = 60.0


@runtime_checkable
class ReportsProgress(Protocol):
    """A runner that tells whether it makes progress."""

    @property
    def silent_s(self) -> float:
        """Seconds for which the runner has had work and sent nothing; 0 without work."""
        ...

    @property
    def overdue_s(self) -> float:
        """Seconds beyond all that its work may take (watchdog.py); 0: it is in time."""
        ...


def find_stuck(loaded_models: Iterable[LoadedModel], limit_s: float = STUCK_S) -> list[str]:
    """The names of the models whose runners should have been ended long ago."""
    return [
        loaded.spec.name
        for loaded in loaded_models
        if isinstance(loaded.runner, ReportsProgress) and loaded.runner.overdue_s > limit_s
    ]
