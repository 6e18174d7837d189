"""Which models are stored: a folder with Ollama's layout (CONTRACT 6.1)."""

import logging
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from . import partial, scratch
from .blobs import Blob, Blobs
from .errors import DamagedModel, ModelNotFound, UnreadableStore
from .lock import locked
from .manifest import Layer, Manifest, dump_manifest, parse_manifest
from .manifest_folder import ManifestFolder, read_layers
from .model import StoredModel, read_model
from .name import Name
from .partial import Partial
from .prune import Pruned, prune_blobs, rename_blobs
from .sources.resumable import sweep_downloads
from .space import Quota, format_bytes, require_space

_log = logging.getLogger(__name__)


class Store:
    """The models below `root`; the first write creates the folder.

    Reading takes no lock, since manifests and blobs are written atomically. Writing locks `root`,
    so that no process removes a blob to which another is about to refer. Every method may raise
    UnreadableStore; those that write contents raise OSError for what the disk refuses.
    """

    def __init__(self, root: Path, *, prunes: bool = True, max_bytes: int = 0) -> None:
        """`prunes`: whether blobs go that no model needs, except those of a deleted model.

        `max_bytes`: what all models may take; 0: any number.
        """
        self.root = root
        self.blobs = Blobs(root / "blobs")
        self._manifests = ManifestFolder(root / "manifests")
        self._prunes = prunes
        self._quota = Quota(root, self.blobs.root, max_bytes)
        self._warned: set[str] = set()  # texts

    def list(self) -> list[StoredModel]:
        """Every intact model, the newest first; the others are skipped with a warning, once.

        Raises UnreadableStore for a folder that cannot be read, or if no model can.
        """
        models, refused = [], None
        self.blobs.check_access()
        for name, path in self._manifests.entries():
            try:
                models.append(read_model(name, path, self.blobs))
            except DamagedModel as error:
                self._warn(str(error))
            except UnreadableStore as error:
                self._warn(str(error))
                refused = error
        if refused and not models:
            raise refused
        return sorted(models, key=lambda model: model.modified_at, reverse=True)

    def find(self, name: Name) -> Name | None:
        """`name` in its case on disk, or None if there is no such model."""
        return self._manifests.cased(name) if self._manifests.find(name) else None

    def resolve(self, name: Name | str) -> StoredModel:
        """The model of that name; raises InvalidName, ModelNotFound, DamagedModel."""
        full_name = Name.parse(name) if isinstance(name, str) else name
        path = self._manifests.find(full_name)
        if path is None:
            raise ModelNotFound(str(name))
        return read_model(self._manifests.cased(full_name), path, self.blobs)

    def manifest(self, name: Name) -> Manifest:
        """The manifest of the model; raises ModelNotFound, DamagedModel."""
        return parse_manifest(self._read(name))

    def manifest_bytes(self, name: Name) -> bytes:
        """The manifest of the model as it is stored; raises ModelNotFound."""
        return self._read(name)

    def write(self, name: Name, manifest: Manifest, contents: Iterable[bytes] = ()) -> int:
        """Stores `manifest` as the model `name`, and `contents` as blobs.

        Its other blobs must be stored already (else DamagedModel). Returns the number of removed
        blobs: those that only the replaced model used. Raises NoSpace before anything is written.
        """
        fresh = {Blob.of(data).digest: data for data in contents}
        self.require_space(sum(map(len, fresh.values())), f"the model {name.short}")
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

    def require_space(self, need_bytes: int, what: str, *, reserve_bytes: int = 0) -> None:
        """Raises NoSpace unless so much fits on the disk, besides the reserve, and in the quota."""
        self.require_quota(need_bytes, what)
        require_space(self.blobs.root, need_bytes, what, reserve_bytes=reserve_bytes)

    def require_quota(self, need_bytes: int, what: str) -> None:
        """Raises NoSpace if the models may not take so much more."""
        self._quota.require(need_bytes, what)

    def claim(self, digest: str) -> bool:
        """Whether the blob is stored, with the size that manifests state; pruning then spares it.

        A blob that no manifest names may have any size. Raises InvalidDigest.
        """
        if not self.blobs.has(digest):
            return False
        path = self.blobs.path(digest)
        try:
            layers = [layer for layer in self._manifests.layers() if self._blob(layer) == path]
        except UnreadableStore as error:
            self._warn(f"the sizes of blobs are not checked: {error}")
            layers = []
        sizes: set[int | None] = {layer.size_bytes for layer in layers} or {None}
        return any(self.blobs.claim(digest, size_bytes) for size_bytes in sizes)

    def copy(self, source: Name, destination: Name) -> None:
        """Stores the model `source` under a second name; raises ModelNotFound."""
        with self._changing():
            self._put(destination, self._read(source))

    def delete(self, name: Name) -> None:
        """Removes a model, damaged or not, and the blobs that no other model uses.

        Raises ModelNotFound.
        """
        with self._changing():
            path = self._existing(name)
            layers = self._layers(path)
            path.unlink()
            self._remove_unused(layers)
            self._manifests.remove_empty(path.parent)
            self._prune()

    def release(self, digests: Iterable[str]) -> None:
        """Removes those of the blobs that no model needs, however new they are."""
        with self._changing():
            self._remove_unused(tuple(Layer("", digest, 0) for digest in digests))

    def sweep(self) -> None:
        """Removes unfinished files of processes that have ended."""
        if self._exists():
            with self._changing():
                self._sweep()

    def prune(self, *, patience_s: float = 2.0) -> Pruned:
        """Removes what nobody needs: unfinished files, empty folders, blobs without a manifest.

        Blobs stay for an hour, since another program may be about to name them (models/README.md).
        Nothing is removed while another process changes the store for longer than `patience_s`:
        what can wait must not hold up a daemon that starts.
        """
        if not self._exists():
            return Pruned()
        try:
            with self._changing(patience_s):
                return self._prune()
        except BlockingIOError:
            _log.warning("%s is not pruned: another process is changing it", self.root)
            return Pruned()

    def _sweep(self) -> None:
        for folder in (self.root, self.blobs.root, self._manifests.root):
            partial.sweep(folder)
        scratch.sweep(self.root)
        sweep_downloads(self.blobs.root)

    def _prune(self) -> Pruned:
        self._sweep()
        rename_blobs(self.blobs.root)
        if not self._prunes:
            return Pruned()
        try:
            self._manifests.prune()
            pruned = prune_blobs(self.blobs.root, self._used())
        except UnreadableStore as error:
            self._warn(f"unused files are kept: {error}")
            return Pruned()
        if pruned.num_files:
            size = format_bytes(pruned.size_bytes)
            _log.info("removed %d files that no model needs, %s", pruned.num_files, size)
        return pruned

    def _put(self, name: Name, data: bytes) -> int:
        path = self._manifests.path(name)
        replaced = self._layers(path) if path.is_file() else ()
        with Partial(self._manifests.root) as draft:
            draft.write(data)
            draft.commit(path)
        return self._remove_unused(replaced) if self._prunes else 0

    def _layers(self, path: Path) -> tuple[Layer, ...]:
        """The blobs of the manifest at `path`; none if it cannot be read."""
        try:
            return read_layers(path)
        except UnreadableStore as error:
            self._warn(f"its blobs are kept: {error}")
            return ()

    def _remove_unused(self, layers: tuple[Layer, ...]) -> int:
        """Removes blobs of `layers` that no manifest names; none if a manifest is unreadable."""
        if not layers:
            return 0
        try:
            used = self._used()
        except UnreadableStore as error:
            self._warn(f"unused blobs are kept: {error}")
            return 0
        unused = {path for path in map(self._blob, layers) if path.name not in used}
        for path in unused:
            path.unlink(missing_ok=True)
        return len(unused)

    def _used(self) -> Set[str]:
        """The file names of the blobs that manifests name."""
        return {self._blob(layer).name for layer in self._manifests.layers()}

    def _blob(self, layer: Layer) -> Path:
        return self.blobs.path(layer.digest)

    def _read(self, name: Name) -> bytes:
        path = self._existing(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableStore.of(path, error) from error

    def _existing(self, name: Name) -> Path:
        path = self._manifests.find(name)
        if path is None:
            raise ModelNotFound(name.short)
        return path

    def _exists(self) -> bool:
        return self.root.is_dir()

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)

    @contextmanager
    def _changing(self, patience_s: float | None = None) -> Iterator[None]:
        """The lock, for changes that put no new contents into the store."""
        try:
            with self._locked(patience_s):
                yield
        except BlockingIOError:
            raise
        except OSError as error:
            raise UnreadableStore.of(Path(error.filename or self.root), error) from error

    def _locked(self, patience_s: float | None = None) -> AbstractContextManager[int]:
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        return locked(self.root, patience_s=patience_s)
