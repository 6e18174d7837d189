"""Where an unfinished pull keeps its files, and how those of a killed one are removed."""

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
    """A folder that exists while `lock` is held; child processes that write there inherit it."""

    path: Path
    lock: int


@contextmanager
def scratch(root: Path) -> Iterator[ScratchFolder]:
    """A new folder below `root` (on its file system), removed at the end of the block."""
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    with ExitStack() as stack:
        with locked(root):  # no sweep can remove the folder before it is locked
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            lock = stack.enter_context(locked(path))
        yield ScratchFolder(path, lock)


def sweep(root: Path) -> None:
    """Removes the folders of ended processes; the caller holds the lock on `root`."""
    for path in root.glob(f"{_PREFIX}*"):
        if abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
