"""Where an unfinished pull keeps its files, and who clears up after one that was killed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .lock import abandoned, locked

_PREFIX = ".outrider-pull-"


@dataclass(frozen=True, slots=True)
class ScratchFolder:
    """A folder that lasts as long as its lock: hand `lock` to child processes that write there."""

    path: Path
    lock: int


@contextmanager
def scratch(root: Path) -> Iterator[ScratchFolder]:
    """A fresh folder below `root` (so on its file system), gone when the block ends."""
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    with ExitStack() as stack:
        with locked(root):  # so that no sweep comes between making and locking
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            lock = stack.enter_context(locked(path))
        yield ScratchFolder(path, lock)


def sweep(root: Path) -> None:
    """Removes the folders whose processes have died; the caller holds the lock on `root`."""
    for path in root.glob(f"{_PREFIX}*"):
        if abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
