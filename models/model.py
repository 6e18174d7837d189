"""What a stored model consists of, as its manifest and blobs state."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from ..quant.gguf import Header
from ..quant.types import format_parameters
from . import manifest as media
from .blobs import Blobs
from .errors import DamagedModel, UnreadableStore
from .manifest import Layer, Manifest, parse_manifest
from .name import Name

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The config blob (CONTRACT 6.2); other keys are ignored."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    remote_host: str = ""
    remote_model: str = ""

    @classmethod
    def of(cls, header: Header) -> "Config":
        """The fields that follow from the header of the weights."""
        return cls(
            model_format="gguf",
            model_family=header.architecture,
            model_families=(header.architecture,),
            model_type=format_parameters(header.parameter_count),
            file_type=header.quantisation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A complete model on disk. Small text layers are read, large layers are paths."""

    name: Name
    digest: str  # hex sha256 of the manifest's bytes, no prefix
    modified_at: datetime  # with the local offset
    size_bytes: int  # all layers and the config
    config: Config
    model_path: Path | None  # the GGUF; None for safetensors models and remote stubs
    parent_model: str
    projector_paths: tuple[Path, ...]
    adapter_paths: tuple[Path, ...]
    draft_path: Path | None
    template: str | None
    system: str
    params: Mapping[str, object]
    messages: tuple[Mapping[str, object], ...]
    licenses: tuple[str, ...]


def dump_config(config: Config, layers: tuple[Layer, ...]) -> bytes:
    """The JSON of the config blob, without empty fields, as Ollama writes it."""
    stated = {key: value for key, value in msgspec.to_builtins(config).items() if value}
    platform = {"architecture": "amd64", "os": "linux"}  # the same on every machine, as in Ollama
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    return msgspec.json.encode(stated | platform | {"rootfs": rootfs})


def read_model(name: Name, path: Path, blobs: Blobs) -> StoredModel:
    """The model whose manifest is at `path`; raises DamagedModel and UnreadableStore."""
    try:
        data = path.read_bytes()
        return _assemble(
            name, data, path.stat().st_mtime, _LayerReader(parse_manifest(data), blobs)
        )
    except OSError as error:
        raise UnreadableStore.of(Path(error.filename or path), error) from error
    except DamagedModel as error:
        advice = "pull or create it again, or remove it"
        raise DamagedModel(f"model '{name.short}' is damaged: {error}; {advice}") from error


def _assemble(name: Name, data: bytes, mtime: float, reader: "_LayerReader") -> StoredModel:
    weights = reader.manifest.of(media.MODEL)
    return StoredModel(
        name=name,
        digest=hashlib.sha256(data).hexdigest(),
        modified_at=datetime.fromtimestamp(mtime).astimezone(),
        size_bytes=sum(layer.size_bytes for layer in reader.manifest.blobs),
        config=reader.json(reader.manifest.config, Config),
        model_path=reader.last_path(media.MODEL),
        parent_model=(weights[-1].source or "") if weights else "",
        projector_paths=reader.paths(media.PROJECTOR),
        adapter_paths=reader.paths(media.ADAPTER),
        draft_path=reader.last_path(media.DRAFT),
        template=reader.last_text(media.TEMPLATE, media.PROMPT),
        system=reader.last_text(media.SYSTEM) or "",
        params=reader.last_json(media.PARAMS, dict[str, object]) or {},
        messages=tuple(reader.last_json(media.MESSAGES, list[dict[str, object]]) or ()),
        licenses=reader.texts(media.LICENSE),
    )


@dataclass(frozen=True, slots=True)
class _LayerReader:
    """Reads layers by media type; if only one is allowed, the last one counts."""

    manifest: Manifest
    blobs: Blobs

    def path(self, layer: Layer) -> Path:
        path = self.blobs.path(layer.digest)
        if not self.blobs.has(layer.digest):
            raise DamagedModel(f"{path} is missing")
        size_bytes = path.stat().st_size
        if size_bytes != layer.size_bytes:
            raise DamagedModel(f"{path} has {size_bytes} bytes instead of {layer.size_bytes}")
        return path

    def text(self, layer: Layer) -> str:
        return self.path(layer).read_bytes().decode(errors="replace")

    def json(self, layer: Layer, kind: type[T]) -> T:
        path = self.path(layer)
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamagedModel(f"{path} is not readable: {error}") from error

    def paths(self, media_type: str) -> tuple[Path, ...]:
        return tuple(map(self.path, self.manifest.of(media_type)))

    def texts(self, *media_types: str) -> tuple[str, ...]:
        return tuple(map(self.text, self.manifest.of(*media_types)))

    def last_path(self, media_type: str) -> Path | None:
        return next(reversed(self.paths(media_type)), None)

    def last_text(self, *media_types: str) -> str | None:
        return next(reversed(self.texts(*media_types)), None)

    def last_json(self, media_type: str, kind: type[T]) -> T | None:
        layers = self.manifest.of(media_type)
        return self.json(layers[-1], kind) if layers else None
