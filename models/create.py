"""How a model is created from uploaded files, or from a model in the store (CONTRACT 7.4)."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from ..quant.gguf import MAGIC, GGUFError, Header, read_header
from . import manifest as media
from .blobs import Blob
from .errors import CreateRefused
from .manifest import Layer, Manifest
from .model import Config, dump_config
from .name import Name
from .store import Store
from .thread import in_thread

Files = Mapping[str, str]  # blob digest by the file name that the user gave
Params = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class FamilyDefaults:
    """Settings that Ollama's clients expect for an architecture and that its weights lack."""

    renderer: str = ""
    parser: str = ""
    stop: tuple[str, ...] = ()


FAMILY_DEFAULTS: Final = {"gemma4": FamilyDefaults("gemma4", "gemma4", ("<turn|>",))}

# Layer types of which a model may hold several: new ones do not replace those of the base.
_CUMULATIVE: Final = {media.MODEL, media.PROJECTOR, media.LICENSE}


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSpec:
    """The contents of a new model; an empty field is inherited from `base`."""

    name: Name
    base: Name | None = None
    files: Files = field(default_factory=dict)
    draft_files: Files = field(default_factory=dict)
    adapters: Files = field(default_factory=dict)
    template: str = ""
    system: str = ""
    params: Params = field(default_factory=dict)
    messages: tuple[Mapping[str, object], ...] = ()
    licenses: tuple[str, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    replaces_weights: bool = False  # whether `files` hold the weights of `base`, in another form


@dataclass(frozen=True, slots=True)
class BaseLayers:
    """The base model's layers, config and parameters; empty if there is no base."""

    layers: tuple[Layer, ...] = ()
    config: Config = field(default_factory=Config)
    params: Params = field(default_factory=dict)

    def without(self, media_type: str) -> "BaseLayers":
        """The same but for the layers of that type."""
        return replace(self, layers=tuple(la for la in self.layers if la.media_type != media_type))


@dataclass(frozen=True, slots=True)
class UploadedGGUF:
    """An uploaded GGUF file; `name` is the file name that the user gave."""

    name: str
    blob: Blob
    header: Header

    @property
    def media_type(self) -> str:
        """The type of the layer that this file becomes."""
        kind = self.header.text("general.type")
        if kind == "adapter":
            return media.ADAPTER
        is_projector = self.header.architecture == "clip" or kind in ("projector", "mmproj")
        return media.PROJECTOR if is_projector else media.MODEL


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer of the new model; `content` is None if its blob is in the store already."""

    layer: Layer
    content: bytes | None = None

    @classmethod
    def of(cls, media_type: str, content: bytes) -> "NewLayer":
        return cls(Blob.of(content).layer(media_type), content)


async def create(store: Store, spec: CreateSpec) -> AsyncGenerator[str, None]:
    """Creates the model and yields status lines; uploaded files are stored unchanged.

    Nothing is written before the last step, which cannot be interrupted. Raises CreateRefused,
    InvalidDigest, ModelNotFound and DamagedModel, before the first status unless a blob was
    deleted in the meantime.
    """
    layers = await in_thread(lambda _: _plan_layers(store, spec))
    if spec.files or spec.draft_files or spec.adapters:
        yield "parsing GGUF"
        yield "validating GGUF model"
    for new in layers:
        verb = "using existing" if store.blobs.has(new.layer.digest) else "creating new"
        yield f"{verb} layer {new.layer.digest}"
    yield "writing manifest"
    await in_thread(lambda _: _install(store, spec.name, layers))
    yield "success"


def _install(store: Store, name: Name, layers: tuple[NewLayer, ...]) -> None:
    *others, config = (new.layer for new in layers)
    contents = [new.content for new in layers if new.content is not None]
    store.write(name, Manifest(config, tuple(others)), contents)


def _plan_layers(store: Store, spec: CreateSpec) -> tuple[NewLayer, ...]:
    """The layers of the new model; the last one is its config."""
    base = _base(store, spec.base)
    if spec.replaces_weights:
        base = base.without(media.MODEL)
    files = _read_files(store, spec.files)
    fresh = [
        *(NewLayer(file.blob.layer(file.media_type)) for file in files),
        *_drafter(store, spec.draft_files),
        *_adapter(store, spec.adapters),
        *_texts(spec),
        *_params(base, spec, files),
    ]
    layers = _unique([*_inherited(base, fresh), *fresh])
    _check_layers(spec, layers)
    config = dump_config(_config(base, spec, files), tuple(new.layer for new in layers))
    return *layers, NewLayer.of(media.CONFIG_TYPE, config)


def _inherited(base: BaseLayers, fresh: list[NewLayer]) -> Iterator[NewLayer]:
    """The layers of the base that no new layer replaces."""
    replaced = {new.layer.media_type for new in fresh} - _CUMULATIVE
    if media.TEMPLATE in replaced:
        replaced.add(media.PROMPT)
    return (NewLayer(layer) for layer in base.layers if layer.media_type not in replaced)


def _base(store: Store, name: Name | None) -> BaseLayers:
    if name is None:
        return BaseLayers()
    model = store.resolve(name)
    layers = store.manifest(model.name).layers
    parent = model.name.short
    return BaseLayers(
        tuple(replace(la, source=parent) for la in layers), model.config, model.params
    )


def _read_files(store: Store, files: Files) -> list[UploadedGGUF]:
    return [_read_file(store, name, digest) for name, digest in files.items()]


def _read_file(store: Store, name: str, digest: str) -> UploadedGGUF:
    path = store.blobs.path(digest)
    if not path.is_file():
        raise CreateRefused(f"the blob {digest} of {name} is not here; upload it first")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise CreateRefused(
                f"supplied file was not in GGUF format: convert {name} to GGUF first, for example "
                "with llama.cpp's convert_hf_to_gguf.py"
            )
    try:
        header = read_header(path)
    except GGUFError as error:
        raise CreateRefused(str(error).replace(str(path), name)) from error
    if (header.number("split.count") or 1) > 1:
        raise CreateRefused(
            f"{name} is one part of a split model; join them with llama-gguf-split --merge"
        )
    return UploadedGGUF(name, Blob(path.name.replace("-", ":"), header.size_bytes), header)


def _drafter(store: Store, files: Files) -> list[NewLayer]:
    if len(files) > 1:
        raise CreateRefused(f"a model has one drafter file, not {' and '.join(files)}")
    for file in _read_files(store, files):
        if file.media_type != media.MODEL:
            raise CreateRefused(f"{file.name} is no model, so it cannot be a drafter")
        return [NewLayer(file.blob.layer(media.DRAFT))]
    return []


def _adapter(store: Store, files: Files) -> list[NewLayer]:
    if len(files) > 1:
        raise CreateRefused("only one adapter is currently supported")
    for file in _read_files(store, files):
        if file.media_type != media.ADAPTER:
            raise CreateRefused(f"{file.name} is not an adapter")
        return [NewLayer(file.blob.layer(media.ADAPTER))]
    return []


def _weights(files: list[UploadedGGUF]) -> UploadedGGUF | None:
    return next((file for file in files if file.media_type == media.MODEL), None)


def _family_defaults(files: list[UploadedGGUF]) -> FamilyDefaults:
    weights = _weights(files)
    architecture = weights.header.architecture if weights else ""
    return FAMILY_DEFAULTS.get(architecture, FamilyDefaults())


def _texts(spec: CreateSpec) -> Iterator[NewLayer]:
    texts = {media.TEMPLATE: spec.template, media.SYSTEM: spec.system}
    yield from (NewLayer.of(kind, text.encode()) for kind, text in texts.items() if text)
    if spec.messages:
        yield NewLayer.of(media.MESSAGES, msgspec.json.encode(spec.messages))
    yield from (NewLayer.of(media.LICENSE, text.encode()) for text in spec.licenses if text)


def _params(base: BaseLayers, spec: CreateSpec, files: list[UploadedGGUF]) -> Iterator[NewLayer]:
    """One layer of parameters, unless they equal the base's: the spec's override the base's."""
    stop = _family_defaults(files).stop
    params = {**({"stop": stop} if stop else {}), **base.params, **spec.params}
    if params != base.params:
        yield NewLayer.of(media.PARAMS, msgspec.json.encode(params))


def _unique(layers: list[NewLayer]) -> tuple[NewLayer, ...]:
    """The layers without repetitions, such as a licence that the base has too."""
    found: dict[tuple[str, str], NewLayer] = {}
    for new in layers:
        found.setdefault((new.layer.media_type, new.layer.digest), new)
    return tuple(found.values())


def _check_layers(spec: CreateSpec, layers: tuple[NewLayer, ...]) -> None:
    """Exactly one layer holds weights, and it is not the drafter too; raises CreateRefused."""
    models = [new.layer.digest for new in layers if new.layer.media_type == media.MODEL]
    drafters = [new.layer.digest for new in layers if new.layer.media_type == media.DRAFT]
    names = ", ".join([*([spec.base.short] if spec.base else []), *spec.files])
    if not models:
        raise CreateRefused(f"there are no GGUF weights of a model in {names}")
    if len(models) > 1:
        raise CreateRefused(f"more than one of these are models: {names}; name one with FROM")
    if models == drafters:
        raise CreateRefused("the drafter is the model itself; name a smaller one with DRAFT")


def _config(base: BaseLayers, spec: CreateSpec, files: list[UploadedGGUF]) -> Config:
    weights = _weights(files)
    config = Config.of(weights.header) if weights else base.config
    defaults = _family_defaults(files)
    projectors = [f.header.architecture for f in files if f.media_type == media.PROJECTOR]
    return replace(
        config,
        model_families=(*(config.model_families or ()), *projectors) or None,
        renderer=spec.renderer or base.config.renderer or defaults.renderer,
        parser=spec.parser or base.config.parser or defaults.parser,
        requires=spec.requires or base.config.requires,
    )
