"""Which models are stored: a folder with Ollama's layout (CONTRACT 6.1)."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from . import partial, scratch
from .blobs import Blob, Blobs
from .errors import DamagedModel, InvalidName, ModelNotFound
from .lock import locked
from .manifest import Layer, Manifest, dump_manifest, parse_manifest
from .model import StoredModel, read_model
from .name import Name
from .partial import Partial

_log = logging.getLogger(__name__)


class Store:
    """The models below `root`; the first write creates the folder.

    Reading takes no lock, since manifests and blobs are written atomically. Writing locks `root`,
    so that no process removes a blob to which another is about to refer.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root / "blobs")
        self._manifests = root / "manifests"

    def list(self) -> list[StoredModel]:
        """Every intact model, the newest first; damaged ones are skipped with a warning."""
        models = []
        for name in self._names():
            try:
                models.append(read_model(name, self._path(name), self.blobs))
            except DamagedModel as error:
                _log.warning("%s", error)
        return sorted(models, key=lambda model: model.modified_at, reverse=True)

    def find(self, name: Name) -> Name | None:
        """`name` in its case on disk, or None if there is no such model."""
        found = self._cased(name)
        return found if self._path(found).is_file() else None

    def resolve(self, name: Name | str) -> StoredModel:
        """The model of that name; raises InvalidName, ModelNotFound, DamagedModel."""
        found = self.find(Name.parse(name) if isinstance(name, str) else name)
        if found is None:
            raise ModelNotFound(str(name))
        return read_model(found, self._path(found), self.blobs)

    def manifest(self, name: Name) -> Manifest:
        """The manifest of the model; raises ModelNotFound, DamagedModel."""
        return parse_manifest(self.manifest_bytes(name))

    def manifest_bytes(self, name: Name) -> bytes:
        """The manifest of the model as it is stored; raises ModelNotFound."""
        return self._existing(name).read_bytes()

    def write(self, name: Name, manifest: Manifest, contents: Iterable[bytes] = ()) -> int:
        """Stores `manifest` as the model `name`, and `contents` as blobs.

        Its other blobs must be stored already (else DamagedModel). Returns the number of removed
        blobs: those that only the replaced model used.
        """
        fresh = {Blob.of(data).digest: data for data in contents}
        with self._locked():
            for layer in manifest.blobs:
                if layer.digest in fresh or self.blobs.has(layer.digest, layer.size_bytes):
                    continue
                raise DamagedModel(f"{self.blobs.path(layer.digest)} is missing; try again")
            for data in fresh.values():
                self.blobs.add_bytes(data)
            return self._put(name, dump_manifest(manifest))

    def install(self, name: Name, manifest: bytes, place: Callable[[], None]) -> int:
        """Stores a received manifest, byte by byte, as the model `name`.

        `place` is called first, under the lock, and puts the blobs where they belong; DamagedModel
        if one is missing then. Returns the number of removed blobs, as `write` does.
        """
        with self._locked():
            place()
            for layer in parse_manifest(manifest).blobs:
                if not self.blobs.has(layer.digest, layer.size_bytes):
                    raise DamagedModel(f"{self.blobs.path(layer.digest)} is missing; try again")
            return self._put(name, manifest)

    def copy(self, source: Name, destination: Name) -> None:
        """Stores the model `source` under a second name; raises ModelNotFound."""
        with self._locked():
            self._put(destination, self._existing(source).read_bytes())

    def delete(self, name: Name) -> None:
        """Removes a model, damaged or not, and the blobs that no other model uses.

        Raises ModelNotFound.
        """
        with self._locked():
            path = self._existing(name)
            layers = _layers(path)
            path.unlink()
            self._remove_empty(path.parent)
            self._remove_unused(layers)

    def sweep(self) -> None:
        """Removes unfinished files of processes that have ended."""
        if not self.root.is_dir():
            return
        with self._locked():
            partial.sweep(self.blobs.root)
            partial.sweep(self._manifests)
            scratch.sweep(self.root)

    def _put(self, name: Name, data: bytes) -> int:
        path = self._path(self._cased(name))
        replaced = _layers(path) if path.is_file() else ()
        with Partial(self._manifests) as draft:
            draft.write(data)
            draft.commit(path)
        return self._remove_unused(replaced)

    def _remove_unused(self, layers: tuple[Layer, ...]) -> int:
        """Removes blobs of `layers` that no manifest names; none if a manifest is unreadable."""
        try:
            manifests = [parse_manifest(path.read_bytes()) for path in self._paths()]
        except DamagedModel as error:
            _log.warning("unused blobs are kept, since a manifest is unreadable: %s", error)
            return 0
        used = {self.blobs.path(blob.digest) for other in manifests for blob in other.blobs}
        unused = {self.blobs.path(layer.digest) for layer in layers} - used
        for path in unused:
            path.unlink(missing_ok=True)
        return len(unused)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._manifests and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _existing(self, name: Name) -> Path:
        found = self.find(name)
        if found is None:
            raise ModelNotFound(name.short)
        return self._path(found)

    def _path(self, name: Name) -> Path:
        return self._manifests.joinpath(*name.parts)

    def _cased(self, name: Name) -> Name:
        """`name` with every part in the case of the existing folder or file."""
        folder, parts = self._manifests, []
        for part in name.parts:
            parts.append(_entry(folder, part))
            folder /= parts[-1]
        return Name(*parts)

    def _paths(self) -> Iterator[Path]:
        return (path for path in self._manifests.glob("*/*/*/*") if path.is_file())

    def _names(self) -> Iterator[Name]:
        for path in self._paths():
            try:
                yield Name(*path.parts[-4:])
            except InvalidName:
                _log.warning("%s is not a valid model name; the file is ignored", path)

    def _locked(self) -> AbstractContextManager[int]:
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        return locked(self.root)


def _layers(path: Path) -> tuple[Layer, ...]:
    """The blobs of the manifest at `path`; none if it cannot be read."""
    try:
        return parse_manifest(path.read_bytes()).blobs
    except DamagedModel as error:
        _log.warning("%s: %s; its blobs are kept", path, error)
        return ()


def _entry(folder: Path, part: str) -> str:
    """`part`, or the entry of `folder` that differs from it in case only."""
    if not folder.is_dir():
        return part
    same = sorted(entry.name for entry in folder.iterdir() if entry.name.lower() == part.lower())
    return part if part in same or not same else same[0]
