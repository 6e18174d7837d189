"""What a manifest contains: the blobs of a model and their roles (CONTRACT 6.2)."""

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from .errors import DamagedModel, InvalidDigest

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"

MODEL: Final = "application/vnd.ollama.image.model"
PROJECTOR: Final = "application/vnd.ollama.image.projector"
ADAPTER: Final = "application/vnd.ollama.image.adapter"
DRAFT: Final = "application/vnd.ollama.image.draft"
TEMPLATE: Final = "application/vnd.ollama.image.template"
PROMPT: Final = "application/vnd.ollama.image.prompt"  # former type of a template layer
SYSTEM: Final = "application/vnd.ollama.image.system"
PARAMS: Final = "application/vnd.ollama.image.params"
MESSAGES: Final = "application/vnd.ollama.image.messages"
LICENSE: Final = "application/vnd.ollama.image.license"

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob and its role; `source` is the parent model or path from which it was created."""

    media_type: str
    digest: str
    size_bytes: int
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The blobs of one model."""

    config: Layer
    layers: tuple[Layer, ...]

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Every blob that the model needs, the config included."""
        return (self.config, *self.layers)

    def of(self, *media_types: str) -> tuple[Layer, ...]:
        """The layers of these types, in the manifest's order."""
        return tuple(layer for layer in self.layers if layer.media_type in media_types)


class _WireLayer(msgspec.Struct, rename="camel", omit_defaults=True):
    media_type: str
    digest: str
    size: int
    source: str | None = msgspec.field(default=None, name="from")


class _WireManifest(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str
    config: _WireLayer
    layers: list[_WireLayer] | None


def check_digest(text: str) -> str:
    """`text` if it is a digest; raises InvalidDigest (CONTRACT 1.15)."""
    if not _DIGEST.fullmatch(text):
        raise InvalidDigest("invalid digest format")
    return text


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in `data`; unknown keys are ignored.

    Raises DamagedModel with the reason, also for a digest that is no file name in the blobs folder.
    """
    try:
        wire = msgspec.json.decode(data, type=_AnyManifest)
        return Manifest(_layer(wire.config), tuple(map(_layer, wire.layers or ())))
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidDigest) as error:
        raise DamagedModel(f"not a model manifest: {error}") from error


def looks_like_manifest(data: bytes) -> bool:
    """Whether `data`, damaged as it may be, was written as a manifest."""
    return b"schemaVersion" in data or b"mediaType" in data


def dump_manifest(manifest: Manifest) -> bytes:
    """The JSON of `manifest`; the model's digest is the sha256 of these bytes."""
    layers = [_wire(layer) for layer in manifest.layers]
    return msgspec.json.encode(_WireManifest(2, MANIFEST_TYPE, _wire(manifest.config), layers))


class _AnyManifest(msgspec.Struct):
    """A manifest on reading: the fields that are needed, without checks of the others."""

    config: _WireLayer
    layers: list[_WireLayer] | None = None


def _layer(wire: _WireLayer) -> Layer:
    return Layer(wire.media_type, check_digest(wire.digest), wire.size, wire.source or None)


def _wire(layer: Layer) -> _WireLayer:
    return _WireLayer(layer.media_type, layer.digest, layer.size_bytes, layer.source)
