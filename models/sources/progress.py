"""What a transfer reports on its way (CONTRACT 1.16 and 1.17)."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullProgress:
    """One status line; `total` and `completed` are bytes of the layer `digest`."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


Steps = AsyncGenerator[PullProgress, None]
