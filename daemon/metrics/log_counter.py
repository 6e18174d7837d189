"""How many lines of the log are warnings or errors?"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator


class LogCounter(logging.Handler):
    """Counts records by level; `logging` calls it under a lock, from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter({"warning": 0, "error": 0})

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record; what is worse than an error counts as one."""
        self.counts["error" if record.levelno >= logging.ERROR else "warning"] += 1

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """While the block lasts all records of this process are counted."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
