"""How are the missing layers of a model fetched and held until they are installed?"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ..errors import DamagedModel, NoSpace, PullFailed
from ..manifest import Layer
from ..store import Store
from ..thread import in_thread
from .download import (
    DownloadPolicy,
    Progress,
    RemoteFile,
    SharedDownload,
    SharedDownloads,
    download,
)
from .progress import PullProgress, Steps
from .resumable import ResumableFile, download_path, kept_bytes, sweep_downloads
from .transport import HttpClient

Install = Callable[[Sequence[ResumableFile]], Steps]  # DamagedModel: a blob was removed meanwhile

_ROUNDS: Final = 3  # of fetching what another process has removed meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTransfer:
    """The layers of one model, and where each one is fetched from if it is not stored."""

    store: Store
    layers: tuple[Layer, ...]
    locate: Callable[[Layer], RemoteFile]
    http: Callable[[], HttpClient]
    downloads: SharedDownloads
    policy: DownloadPolicy
    extra_bytes: int = 0  # that `install` writes besides

    async def run(self, install: Install) -> Steps:
        """Downloads what is missing, then lets `install` store the files, which are held so long.

        Raises PullFailed if the disk is too small, and what `download` and `install` raise.
        """
        await in_thread(lambda _: self._prepare())
        for left in reversed(range(_ROUNDS)):
            async with AsyncExitStack() as stack:
                arrived: list[SharedDownload] = []
                async with aclosing(self._fetch(stack, arrived)) as steps:
                    async for progress in steps:
                        yield progress
                files = [shared.file for shared in arrived if shared.file is not None]
                try:
                    async with aclosing(install(files)) as steps:
                        async for progress in steps:
                            yield progress
                except DamagedModel:  # a blob was removed meanwhile, as with another model
                    if not left:
                        raise
                    continue
            return

    def path(self, layer: Layer) -> Path:
        """Where the content of a layer lies once it has arrived."""
        return self.store.blobs.path(layer.digest) if self._is_stored(layer) else self._kept(layer)

    async def _fetch(self, stack: AsyncExitStack, arrived: list[SharedDownload]) -> Steps:
        """Adds the finished downloads to `arrived`; they are held until `stack` is closed."""
        for layer in self.layers:
            if not self._is_stored(layer):
                work = partial(self._download, layer)
                shared = await stack.enter_async_context(
                    self.downloads.join(self._kept(layer), work)
                )
                async with aclosing(shared.progress()) as counts:
                    async for completed_bytes in counts:
                        yield pulling(layer, completed_bytes)
                arrived.append(shared)
            yield pulling(layer, layer.size_bytes)

    async def _download(self, layer: Layer, progress: Progress) -> ResumableFile | None:
        """What the first client that wants this layer starts, and others wait for."""
        return await download(
            self.locate(layer),
            self._kept(layer),
            progress,
            is_stored=lambda: self._is_stored(layer),
            http=self.http,
            policy=self.policy,
        )

    def _prepare(self) -> None:
        """Removes what others have left, and checks the free space."""
        self.store.sweep()
        if self._missing_space() > 0:
            kept = {self._kept(layer) for layer in self.layers}
            sweep_downloads(self.store.blobs.root, older_than_s=0, keep=kept)
        try:
            self.store.require_quota(self._needed_bytes(), "the model")
        except NoSpace as error:
            raise PullFailed(str(error)) from error
        missing_bytes = self._missing_space()
        if missing_bytes > 0:
            root, need_bytes = self.store.root, self._needed_bytes()
            raise PullFailed(
                f"not enough disk space in {root}: {need_bytes / 1e6:.0f} MB are needed, "
                f"{(need_bytes - missing_bytes) / 1e6:.0f} MB are free; make room or choose "
                "another models folder"
            )

    def _needed_bytes(self) -> int:
        """What is still to be written, beyond what unfinished downloads take already."""
        missing = [layer for layer in self.layers if not self._is_stored(layer)]
        missing_bytes = sum(
            max(0, layer.size_bytes - kept_bytes(self._kept(layer))) for layer in missing
        )
        return missing_bytes + self.extra_bytes

    def _missing_space(self) -> int:
        """By how many bytes the disk is too small; 0 or less if it is not."""
        root = self.store.blobs.root
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        return self._needed_bytes() - shutil.disk_usage(root).free

    def _kept(self, layer: Layer) -> Path:
        """Where the content of a layer arrives."""
        return _kept_at(self.store.blobs.root, layer)

    def _is_stored(self, layer: Layer) -> bool:
        return self.store.blobs.has(layer.digest, layer.size_bytes)


def discard_downloads(blobs: Path, layers: Iterable[Layer]) -> None:
    """Removes what has arrived of these layers, unless somebody still uses it."""
    for path in (_kept_at(blobs, layer) for layer in layers):
        file = ResumableFile.lock(path) if path.exists() else None
        if file is not None:
            file.discard()
            file.close()


def _kept_at(blobs: Path, layer: Layer) -> Path:
    return download_path(blobs, digest_of(layer).removeprefix("sha256:"))


def pulling(layer: Layer, completed_bytes: int) -> PullProgress:
    """The progress line of one layer (CONTRACT 1.16)."""
    digest = digest_of(layer)
    return PullProgress(
        f"pulling {digest[7:19]}", digest, layer.size_bytes, completed_bytes or None
    )


def digest_of(layer: Layer) -> str:
    """The digest as it is computed: with a colon, in lower case."""
    return layer.digest.replace("-", ":").lower()
