"""Which GGUF files were uploaded for a new model (CONTRACT 7.4)?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..quant.adapter import is_adapter
from ..quant.gguf import MAGIC, GGUFError, Header, read_header
from ..quant.split import PREFIX, SplitError, is_part, sort_parts
from . import manifest as media
from .blobs import Blob
from .errors import CreateRefused
from .partial import Partial
from .store import Store

Files = Mapping[str, str]  # blob digest by the file name that the user gave

CONVERT: Final = "convert {} to GGUF first, for example with llama.cpp's convert_hf_to_gguf.py"
_CHECKPOINT_SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, slots=True)
class UploadedGGUF:
    """A GGUF file for a layer; `name` is the file name that the user gave.

    The file of `parts` is yet to be written, as `partial`; its header describes the whole.
    """

    name: str
    header: Header
    blob: Blob
    parts: tuple["UploadedGGUF", ...] = ()
    partial: Partial | None = None

    @property
    def media_type(self) -> str:
        """The type of the layer that this file becomes."""
        kind = self.header.text("general.type")
        if is_adapter(self.header):
            return media.ADAPTER
        is_projector = self.header.architecture == "clip" or kind in ("projector", "mmproj")
        return media.PROJECTOR if is_projector else media.MODEL


def read_uploads(
    store: Store, files: Files, check: Callable[[], None] = lambda: None
) -> tuple[UploadedGGUF, ...]:
    """The files, with the parts of a split model as one. Raises CreateRefused, InvalidDigest.

    `check` is called before each file, and may raise to stop.
    """
    found = []
    for name, digest in files.items():
        check()
        found.append(read_upload(store, name, digest))
    parts = [file for file in found if is_part(file.header)]
    whole = [file for file in found if not is_part(file.header)]
    return (*([_joined(parts)] if parts else []), *whole)


def read_upload(store: Store, name: str, digest: str) -> UploadedGGUF:
    """One file, a part or a whole. Raises CreateRefused, InvalidDigest."""
    path = find_upload(store, name, digest)
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            advice = CONVERT.format(name)
            raise CreateRefused(f"supplied file was not in GGUF format: {advice}")
    header = read_named(path, name)
    return UploadedGGUF(name, header, Blob(path.name.replace("-", ":"), header.size_bytes))


def find_upload(store: Store, name: str, digest: str) -> Path:
    """The path of an uploaded blob, which pruning spares from now on. Raises CreateRefused."""
    if not store.blobs.claim(digest):
        raise CreateRefused(f"the blob {digest} of {name} is not here; upload it first")
    return store.blobs.path(digest)


def read_named(path: Path, name: str) -> Header:
    """The header of a file; raises CreateRefused with the name that its user knows."""
    try:
        return read_header(path)
    except GGUFError as error:
        raise CreateRefused(str(error).replace(str(path), name)) from error


def split_formats(
    store: Store, files: Files, check: Callable[[], None] = lambda: None
) -> tuple[Files, Files]:
    """The files of a model in safetensors, and the GGUF files. Raises CreateRefused.

    Without a file in safetensors all count as GGUF, so that the others are refused by name.
    `check` is called before each file, and may raise to stop.
    """
    if not any(name.endswith(_CHECKPOINT_SUFFIX) for name in files):
        return {}, files
    ggufs = {}
    for name, digest in files.items():
        check()
        if _magic(find_upload(store, name, digest)) == MAGIC:
            ggufs[name] = digest
    return {name: digest for name, digest in files.items() if name not in ggufs}, ggufs


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(MAGIC))


def _joined(parts: list[UploadedGGUF]) -> UploadedGGUF:
    """The whole that the parts make; its blob is known once it is written."""
    by_path = {part.header.path: part for part in parts}
    try:
        headers = sort_parts(part.header for part in parts)
    except SplitError as error:
        names = ", ".join(part.name for part in parts)
        raise CreateRefused(f"{names}: {error}; upload all parts of one model") from error
    first = headers[0]
    whole = Header(
        first.path,
        first.version,
        sum(header.size_bytes for header in headers),
        {key: value for key, value in first.values.items() if not key.startswith(PREFIX)},
        tuple(tensor for header in headers for tensor in header.tensors),
    )
    ordered = tuple(by_path[header.path] for header in headers)
    return UploadedGGUF(ordered[0].name, whole, ordered[0].blob, ordered)
