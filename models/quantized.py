"""How are the weights of a new model quantised before it is created (CONTRACT 7.4)?"""

import errno
import hashlib
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from ..quant.gguf import GGUFError, Header, read_header
from ..quant.quantize import QuantizeError, QuantizeJob, is_plain, quantize
from ..quant.types import FileType, UnknownFileType, find_file_type
from . import manifest as media
from .blobs import Blob, copy
from .create import CreateSpec, UploadedGGUF
from .errors import CreateFailed, CreateRefused
from .pull import PullProgress
from .scratch import scratch
from .store import Store
from .thread import in_thread

NO_DIGEST: Final = "0000000000000000000"  # Ollama's digest of a layer that is being quantised
_HASHED_BYTES: Final = 1 << 20  # read at a time


@dataclass(frozen=True, slots=True)
class QuantizeSource:
    """A file that is to be quantised; `name` is its name in the request, "" of the base's."""

    name: str
    path: Path
    header: Header
    file_type: FileType
    is_draft: bool

    @property
    def status(self) -> str:
        return f"quantizing {self.header.quantisation} model to {self.file_type.name}"


class WeightsQuantizer:
    """Quantises the weights and the drafter of a spec; `spec` names the new files after `steps`."""

    def __init__(self, store: Store, spec: CreateSpec, weights: str, drafter: str) -> None:
        """The types are texts of the request; "" leaves the file as it is.

        Raises CreateRefused and CreateFailed.
        """
        self.spec = spec
        self._store = store
        self._added: list[Blob] = []
        self._types = _file_type(weights), _file_type(drafter)

    async def steps(self) -> AsyncGenerator[PullProgress, None]:
        """Quantises, and yields progress. Raises CreateRefused, CreateFailed and the errors of the
        store; nothing is left then, or after `discard`."""
        sources = await in_thread(lambda _: list(self._sources()))
        for source in sources:
            with scratch(self._store.root) as folder:
                target = folder.path / "quantized.gguf"
                job = QuantizeJob(
                    source=source.path,
                    target=target,
                    file_type=source.file_type,
                    inherited=(folder.lock,),
                )
                async with aclosing(_quantize(job, source.status)) as steps:
                    async for step in steps:
                        yield step
                yield PullProgress("verifying conversion")
                blob = await in_thread(partial(self._adopt, target))
            self._replace(source, blob)

    def discard(self) -> None:
        """Removes the new files that no model uses: call it when the model is created, or is not
        going to be."""
        self._store.discard(blob.layer(media.MODEL) for blob in self._added)

    def _sources(self) -> Iterator[QuantizeSource]:
        weights, drafter = self._types
        if weights:
            for source in self._weights(weights):
                if not is_plain(source.header):
                    raise CreateFailed(
                        "quantization is only supported for F16, BF16 and F32 models"
                    )
                if source.header.quantisation != weights.name:
                    yield source
        if drafter:
            source = self._drafter(drafter)
            if not is_plain(source.header):
                raise CreateFailed(
                    "draft quantization requires an unquantized draft model, got "
                    f"{source.header.quantisation}"
                )
            if source.header.quantisation != drafter.name:
                yield source

    def _weights(self, file_type: FileType) -> list[QuantizeSource]:
        """The uploaded weights, or else those of the base."""
        uploads = self._uploads(self.spec.files)
        named = [
            QuantizeSource(file.name, self._path(file), file.header, file_type, is_draft=False)
            for file in uploads
            if file.media_type == media.MODEL
        ]
        if named or not self.spec.base:
            return named
        path = self._store.resolve(self.spec.base).model_path
        if path is None:
            return []
        return [QuantizeSource("", path, read_header(path), file_type, is_draft=False)]

    def _drafter(self, file_type: FileType) -> QuantizeSource:
        for file in self._uploads(self.spec.draft_files):
            return QuantizeSource(
                file.name, self._path(file), file.header, file_type, is_draft=True
            )
        path = self._store.resolve(self.spec.base).draft_path if self.spec.base else None
        if path is None:
            raise CreateRefused("--draft-quantize requires a DRAFT model")
        return QuantizeSource("", path, read_header(path), file_type, is_draft=True)

    def _path(self, file: UploadedGGUF) -> Path:
        return self._store.blobs.path(file.blob.digest)

    def _uploads(self, files: Mapping[str, str]) -> Iterator[UploadedGGUF]:
        """The GGUF files; what is wrong with the others is told when the model is created."""
        for name, digest in files.items():
            path = self._store.blobs.path(digest)
            try:
                header = read_header(path)
            except GGUFError:
                continue
            yield UploadedGGUF(name, Blob(digest, header.size_bytes), header)

    def _adopt(self, path: Path, stop: Event) -> Blob:
        """Makes the file a blob."""
        blob = _hash(path, stop)
        if self._store.blobs.claim(blob.digest, blob.size_bytes):
            return blob
        self._added.append(blob)
        final = self._store.blobs.path(blob.digest)
        final.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            path.rename(final)
        except OSError as error:
            if error.errno != errno.EXDEV:  # the folder of blobs is a file system of its own
                raise
            with path.open("rb") as file, self._store.blobs.partial() as written:
                copy(file, written)
                self._store.blobs.commit(written, expect=blob.digest)
        return blob

    def _replace(self, source: QuantizeSource, blob: Blob) -> None:
        name = source.name or "quantized.gguf"
        if source.is_draft:
            self.spec = replace(self.spec, draft_files={name: blob.digest})
            return
        files = {**self.spec.files, name: blob.digest}
        self.spec = replace(self.spec, files=files, replaces_weights=not source.name)


async def _quantize(job: QuantizeJob, status: str) -> AsyncGenerator[PullProgress, None]:
    try:
        async with aclosing(quantize(job)) as steps:
            async for step in steps:
                yield PullProgress(status, NO_DIGEST, step.total_bytes, step.completed_bytes)
    except (QuantizeError, GGUFError) as error:
        raise CreateFailed(str(error)) from error


def _file_type(text: str) -> FileType | None:
    try:
        return find_file_type(text) if text else None
    except UnknownFileType as error:
        raise CreateFailed(str(error)) from error


def _hash(path: Path, stop: Event) -> Blob:
    """The blob of a file, which is on the disk then. Stops with an error of the caller's task."""
    sha256, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while not stop.is_set() and (chunk := file.read(_HASHED_BYTES)):
            sha256.update(chunk)
            size_bytes += len(chunk)
        os.fsync(file.fileno())
    if stop.is_set():
        raise InterruptedError("the request was cancelled")
    return Blob(f"sha256:{sha256.hexdigest()}", size_bytes)
