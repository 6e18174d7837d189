"""Which files of a new model are quantised, and to what (CONTRACT 7.4)?"""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..quant.gguf import GGUFError, Header
from ..quant.quantize import QuantizeError, QuantizeJob, is_plain, quantize
from ..quant.types import FileType, UnknownFileType, find_file_type
from .create_spec import CreateSpec
from .errors import CreateFailed, CreateRefused
from .new_layers import NewFiles
from .progress import CreateProgress, Report
from .store import Store
from .uploads import UploadedGGUF, read_named

NO_DIGEST: Final = "0000000000000000000"  # Ollama's digest of a layer that is being quantised


@dataclass(frozen=True, slots=True)
class QuantizeSource:
    """A file that is to be quantised: an uploaded one, or one of a model in the store."""

    name: str
    header: Header
    file_type: FileType
    upload: UploadedGGUF | None = None

    @property
    def status(self) -> str:
        return f"quantizing {self.header.quantisation} model to {self.file_type.name}"

    @property
    def is_done(self) -> bool:
        """Whether the file has the type already."""
        return self.header.quantisation == self.file_type.name


def find_type(text: str) -> FileType | None:
    """The type that a request names; None for "". Raises CreateFailed for an unknown one."""
    try:
        return find_file_type(text) if text else None
    except UnknownFileType as error:
        raise CreateFailed(str(error)) from error


def find_weights(store: Store, spec: CreateSpec, files: NewFiles) -> QuantizeSource | None:
    """The weights to be quantised; None if none are. Raises CreateFailed."""
    if not spec.quantize:
        return None
    source = None
    if files.weights:
        source = _of_upload(files.weights, spec.quantize)
    elif spec.base and (path := store.resolve(spec.base).model_path):
        source = _of_stored(path, spec.base.short, spec.quantize)
    if not source or source.is_done:
        return None
    if not is_plain(source.header):
        raise CreateFailed("quantization is only supported for F16, BF16 and F32 models")
    return source


def find_drafter(store: Store, spec: CreateSpec, files: NewFiles) -> QuantizeSource | None:
    """The drafter to be quantised; None if none is. Raises CreateRefused and CreateFailed."""
    if not spec.draft_quantize:
        return None
    source = next((_of_upload(file, spec.draft_quantize) for file in files.drafters), None)
    for path, name in _stored_drafters(store, spec):
        source = source or _of_stored(path, name, spec.draft_quantize)
    if not source:
        raise CreateRefused("--draft-quantize requires a DRAFT model")
    if source.is_done:
        return None
    if not is_plain(source.header):
        got = source.header.quantisation
        raise CreateFailed(f"draft quantization requires an unquantized draft model, got {got}")
    return source


async def write_quantized(source: QuantizeSource, target: Path, lock: int, report: Report) -> None:
    """Writes the quantised file. Raises CreateFailed; `lock` is held by the child process, too."""
    path, file_type = source.header.path, source.file_type
    job = QuantizeJob(source=path, target=target, file_type=file_type, inherited=(lock,))
    try:
        async with aclosing(quantize(job)) as steps:
            async for step in steps:
                total, completed = step.total_bytes, step.completed_bytes
                await report(CreateProgress(source.status, NO_DIGEST, total, completed))
    except (QuantizeError, GGUFError) as error:
        raise CreateFailed(str(error).replace(str(path), source.name)) from error


def replace_weights(files: NewFiles, source: QuantizeSource, new: UploadedGGUF) -> NewFiles:
    """The files with `new` instead of the weights, which may be those of the base."""
    others = tuple(file for file in files.models if file is not source.upload)
    return replace(files, models=(new, *others), replaces_base=source.upload is None)


def _of_upload(file: UploadedGGUF, file_type: FileType) -> QuantizeSource:
    return QuantizeSource(file.name, file.header, file_type, file)


def _of_stored(path: Path, name: str, file_type: FileType) -> QuantizeSource:
    return QuantizeSource(name, read_named(path, name), file_type)


def _stored_drafters(store: Store, spec: CreateSpec) -> Iterator[tuple[Path, str]]:
    """Path and model of the drafters that the spec names or inherits, the first one counts."""
    if spec.draft and (path := store.resolve(spec.draft).model_path):
        yield path, spec.draft.short
    if spec.base and (path := store.resolve(spec.base).draft_path):
        yield path, spec.base.short
