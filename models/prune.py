"""Which files of the blobs folder does nobody need any more? (CONTRACT 6.1)"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .lock import abandoned

# Age of a blob without a manifest, as in Ollama (CONTRACT 6.1): the program that wrote it may be
# about to write the manifest too.
BLOB_AGE_S: Final = 3600.0
# Age of the newest part of an unfinished download; until then it is worth resuming.
PARTIAL_AGE_S: Final = 86400.0

_BLOB = re.compile(r"sha256[-:][0-9a-f]{64}")
_PARTIAL = re.compile(r"(sha256[-:][0-9a-f]{64})-partial.*")


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A file of the blobs folder; `age_s` are the seconds since it changed."""

    name: str
    age_s: float
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed."""

    num_files: int = 0
    size_bytes: int = 0


def plan_pruning(files: Collection[BlobFile], used: Set[str]) -> list[BlobFile]:
    """The files to remove; `used` are the names of the blobs that manifests name.

    Files of other names are not ours, and stay. While a download of another program grows, the
    layers that it has finished are without a manifest however old they are: all blobs stay.
    """
    partials = _partials(files)
    ages_s = [min(file.age_s for file in parts) for parts in partials.values()]
    chosen = [
        file
        for parts, age_s in zip(partials.values(), ages_s, strict=True)
        if age_s >= PARTIAL_AGE_S
        for file in parts
    ]
    if all(age_s >= BLOB_AGE_S for age_s in ages_s):
        chosen += [file for file in files if _is_unused(file, used) and file.age_s >= BLOB_AGE_S]
    return chosen


def rename_blobs(folder: Path) -> None:
    """Gives blobs of the former spelling, `sha256:<hex>`, their present name (CONTRACT 6.1)."""
    for file in list(_read(folder)):
        path = folder / file.name.replace(":", "-")
        if _BLOB.fullmatch(file.name) and not path.exists():
            (folder / file.name).rename(path)


def prune_blobs(folder: Path, used: Set[str]) -> Pruned:
    """Removes the unneeded files of `folder`; the caller holds the lock on the store."""
    removed = [
        file for file in plan_pruning(list(_read(folder)), used) if _remove(folder / file.name)
    ]
    return Pruned(len(removed), sum(file.size_bytes for file in removed))


def _partials(files: Collection[BlobFile]) -> dict[str, list[BlobFile]]:
    """The parts of unfinished downloads, by the blob that they are to become."""
    found: dict[str, list[BlobFile]] = defaultdict(list)
    for file in files:
        if match := _PARTIAL.fullmatch(file.name):
            found[match[1]].append(file)
    return found


def _is_unused(file: BlobFile, used: Set[str]) -> bool:
    return bool(_BLOB.fullmatch(file.name)) and file.name.replace(":", "-") not in used


def _read(folder: Path) -> Iterator[BlobFile]:
    now_s = time.time()
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                yield BlobFile(entry.name, now_s - stat.st_mtime, stat.st_size)


def _remove(path: Path) -> bool:
    """Whether the file is gone; one that a living process has locked stays."""
    if not abandoned(path):
        return False
    path.unlink(missing_ok=True)
    return True
