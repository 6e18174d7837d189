"""Where does the manifest of a name lie, and which blobs do all of them name? (CONTRACT 6.1)"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .errors import DamagedModel, InvalidName, UnreadableStore, is_broken_link
from .manifest import Layer, looks_like_manifest, parse_manifest
from .name import Name

_DEPTH: Final = 4  # host, namespace, model and tag
# Age of an empty folder that may go: another program may have made it for its manifest.
_EMPTY_AGE_S: Final = 3600.0


class ManifestFolder:
    """The folder `manifests`, which may be missing. Strays of other programs are passed over."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: Name) -> Path:
        """Where the manifest of that name lies, or would; the case of what is there counts."""
        return self.root.joinpath(*self.cased(name).parts)

    def cased(self, name: Name) -> Name:
        """`name` with every part in the case of the existing folder or file.

        Raises UnreadableStore.
        """
        folder, parts = self.root, []
        for part in name.parts:
            parts.append(_entry(folder, part))
            folder /= parts[-1]
        return Name(*parts)

    def find(self, name: Name) -> Path | None:
        """The manifest of that name, readable or not; None if there is none."""
        path = self.path(name)
        return path if os.path.lexists(path) and not os.path.isdir(path) else None

    def entries(self) -> Iterator[tuple[Name, Path]]:
        """All manifests; a file whose path is no name is not a manifest."""
        for path in self._files(self.root, _DEPTH):
            try:
                yield Name(*path.parts[-_DEPTH:]), path
            except InvalidName:
                continue

    def layers(self) -> list[Layer]:
        """The layers of every manifest. Raises UnreadableStore if one of them cannot be known.

        A file that has nothing of a manifest names no blobs: an empty file, or one of another kind.
        """
        return [layer for _, path in self.entries() for layer in read_layers(path)]

    def remove_empty(self, folder: Path) -> None:
        """Removes `folder` and those above it, as far as they are empty."""
        while folder != self.root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def prune(self) -> None:
        """Removes the empty folders that a killed process has left."""
        oldest_s = time.time() - _EMPTY_AGE_S
        folders = sorted(self._folders(self.root, _DEPTH - 1), reverse=True)
        # A folder is new again as soon as one inside of it is removed, so all are looked at before.
        for folder in [each for each in folders if each.stat().st_mtime <= oldest_s]:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _files(self, folder: Path, depth: int) -> Iterator[Path]:
        for entry in scan(folder):
            path = folder / entry.name
            if depth > 1 and _is_folder(entry):
                yield from self._files(path, depth - 1)
            elif depth == 1 and not entry.is_dir():
                yield path

    def _folders(self, folder: Path, depth: int) -> Iterator[Path]:
        for entry in scan(folder):
            if depth and entry.is_dir(follow_symlinks=False):
                yield folder / entry.name
                yield from self._folders(folder / entry.name, depth - 1)


def read_layers(path: Path) -> tuple[Layer, ...]:
    """The blobs of the manifest at `path`; none if it is not a manifest.

    Raises UnreadableStore if it cannot be read, or is a part of a manifest.
    """
    try:
        data = path.read_bytes()
        return parse_manifest(data).blobs
    except OSError as error:
        raise UnreadableStore.of(path, error) from error
    except DamagedModel as error:
        if looks_like_manifest(data):
            raise UnreadableStore(f"{path} is damaged ({error}); remove this model") from error
        return ()


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of `folder` by name; none if it is missing. Raises UnreadableStore."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError as error:
        for path in (folder, *folder.parents):
            if is_broken_link(path):
                raise UnreadableStore.of(path, error) from error
        return []
    except OSError as error:
        raise UnreadableStore.of(folder, error) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Raises UnreadableStore for a link that leads nowhere: models may lie behind it."""
    if is_broken_link(Path(entry.path)):
        raise UnreadableStore.of(Path(entry.path), FileNotFoundError(2, os.strerror(2)))
    return entry.is_dir()


def _entry(folder: Path, part: str) -> str:
    """`part`, or the entry of `folder` that differs from it in case only."""
    if os.path.isfile(folder):  # a stray where a folder belongs
        return part
    same = [entry.name for entry in scan(folder) if entry.name.lower() == part.lower()]
    return part if part in same or not same else same[0]
