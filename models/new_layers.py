"""Which layers and which config does a new model have (CONTRACT 7.4)?"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from ..quant.adapter import find_misfit
from ..quant.gguf import Header
from . import manifest as media
from .blobs import Blob
from .create_spec import CreateSpec, Params
from .errors import CreateRefused
from .manifest import Layer
from .model import Config, StoredModel, dump_config
from .name import Name
from .partial import Partial
from .store import Store
from .uploads import UploadedGGUF, read_named


@dataclass(frozen=True, slots=True)
class FamilyDefaults:
    """Settings that Ollama's clients expect for an architecture and that its weights lack."""

    renderer: str = ""
    parser: str = ""
    stop: tuple[str, ...] = ()


_NEMOTRON: Final = FamilyDefaults("nemotron-3-nano", "nemotron-3-nano")
FAMILY_DEFAULTS: Final = {
    "gemma4": FamilyDefaults("gemma4", "gemma4", ("<turn|>",)),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_moe": _NEMOTRON,
    "nemotron_h_omni": _NEMOTRON,
}

# Layer types of which a model may hold several: new ones do not replace those of the base.
_CUMULATIVE: Final = {media.MODEL, media.PROJECTOR, media.LICENSE}


@dataclass(frozen=True, slots=True)
class NewFiles:
    """The GGUF files of a new model, by the command of a Modelfile that names them."""

    models: tuple[UploadedGGUF, ...] = ()  # FROM: weights and projectors
    drafters: tuple[UploadedGGUF, ...] = ()
    adapters: tuple[UploadedGGUF, ...] = ()
    replaces_base: bool = False  # whether the weights are those of the base, quantised

    @property
    def all(self) -> tuple[UploadedGGUF, ...]:
        return self.models + self.drafters + self.adapters

    @property
    def weights(self) -> UploadedGGUF | None:
        """The first file with weights of a model."""
        return next((file for file in self.models if file.media_type == media.MODEL), None)

    @property
    def defaults(self) -> FamilyDefaults:
        """What the architecture of the weights brings."""
        architecture = self.weights.header.architecture if self.weights else ""
        return FAMILY_DEFAULTS.get(architecture, FamilyDefaults())


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer of the new model; without `content` and `partial` its blob is in the store."""

    layer: Layer
    content: bytes | None = None
    partial: Partial | None = None

    @classmethod
    def of(cls, media_type: str, content: bytes) -> "NewLayer":
        """A layer of a text or of JSON."""
        return cls(Blob.of(content).layer(media_type), content)

    @classmethod
    def of_file(cls, file: UploadedGGUF, media_type: str) -> "NewLayer":
        """A layer of a GGUF file."""
        return cls(file.blob.layer(media_type), partial=file.partial)


@dataclass(frozen=True, slots=True)
class BaseLayers:
    """The base model's layers, config and parameters; empty if there is no base."""

    model: StoredModel | None = None
    layers: tuple[Layer, ...] = ()
    config: Config = field(default_factory=Config)
    params: Params = field(default_factory=dict)

    def without(self, media_type: str) -> "BaseLayers":
        """The same but for the layers of that type."""
        return replace(self, layers=tuple(la for la in self.layers if la.media_type != media_type))


def plan_layers(store: Store, spec: CreateSpec, files: NewFiles) -> tuple[NewLayer, ...]:
    """The layers of the new model; the last one is its config.

    Raises CreateRefused, ModelNotFound and DamagedModel.
    """
    base = _read_base(store, spec.base)
    if files.replaces_base:
        base = base.without(media.MODEL)
    fresh = [
        *(NewLayer.of_file(file, file.media_type) for file in files.models),
        *_drafter(store, spec.draft, files),
        *_adapter(files),
        *_texts(spec),
        *_params(base, spec, files),
    ]
    layers = _unique([*_inherited(base, fresh), *fresh])
    _check_models(spec, layers)
    _check_adapters(base, files, layers)
    config = dump_config(_config(base, spec, files), tuple(new.layer for new in layers))
    return *layers, NewLayer.of(media.CONFIG_TYPE, config)


def _read_base(store: Store, name: Name | None) -> BaseLayers:
    if name is None:
        return BaseLayers()
    model = store.resolve(name)
    layers = store.manifest(model.name).layers
    parent = model.name.short
    passed_on = tuple(replace(layer, source=parent) for layer in layers)
    return BaseLayers(model, passed_on, model.config, model.params)


def _inherited(base: BaseLayers, fresh: list[NewLayer]) -> Iterator[NewLayer]:
    """The layers of the base that no new layer replaces."""
    replaced = {new.layer.media_type for new in fresh} - _CUMULATIVE
    if media.TEMPLATE in replaced:
        replaced.add(media.PROMPT)
    return (NewLayer(layer) for layer in base.layers if layer.media_type not in replaced)


def _drafter(store: Store, name: Name | None, files: NewFiles) -> Iterator[NewLayer]:
    """The layer of an uploaded drafter, or the weights of a model as the drafter."""
    if len(files.drafters) + bool(name) > 1:
        names = [*(file.name for file in files.drafters), *([name.short] if name else [])]
        raise CreateRefused(f"a model has one drafter, not {' and '.join(names)}")
    for file in files.drafters:
        if file.media_type != media.MODEL:
            raise CreateRefused(f"{file.name} is no model, so it cannot be a drafter")
        yield NewLayer.of_file(file, media.DRAFT)
    if name:
        model = store.resolve(name)
        weights = store.manifest(model.name).of(media.MODEL)
        if not weights:
            raise CreateRefused(f"{name.short} has no GGUF weights, so it cannot be a drafter")
        yield NewLayer(replace(weights[-1], media_type=media.DRAFT, source=model.name.short))


def _adapter(files: NewFiles) -> Iterator[NewLayer]:
    if len(files.adapters) > 1:
        raise CreateRefused("only one adapter is currently supported")
    for file in files.adapters:
        if file.media_type != media.ADAPTER:
            raise CreateRefused(f"{file.name} is not an adapter")
        yield NewLayer.of_file(file, media.ADAPTER)


def _texts(spec: CreateSpec) -> Iterator[NewLayer]:
    texts = {media.TEMPLATE: spec.template, media.SYSTEM: spec.system}
    yield from (NewLayer.of(kind, text.encode()) for kind, text in texts.items() if text)
    if spec.messages:
        yield NewLayer.of(media.MESSAGES, msgspec.json.encode(spec.messages))
    yield from (NewLayer.of(media.LICENSE, text.encode()) for text in spec.licenses if text)


def _params(base: BaseLayers, spec: CreateSpec, files: NewFiles) -> Iterator[NewLayer]:
    """One layer of parameters, unless they equal the base's: the spec's override the base's."""
    stop = files.defaults.stop
    params = {**({"stop": stop} if stop else {}), **base.params, **spec.params}
    if params != base.params:
        yield NewLayer.of(media.PARAMS, msgspec.json.encode(params))


def _unique(layers: list[NewLayer]) -> tuple[NewLayer, ...]:
    """The layers without repetitions, such as a licence that the base has too."""
    found: dict[tuple[str, str], NewLayer] = {}
    for new in layers:
        found.setdefault((new.layer.media_type, new.layer.digest), new)
    return tuple(found.values())


def _check_models(spec: CreateSpec, layers: tuple[NewLayer, ...]) -> None:
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


def _check_adapters(base: BaseLayers, files: NewFiles, layers: tuple[NewLayer, ...]) -> None:
    """Every adapter changes weights that the model has; raises CreateRefused."""
    if not any(new.layer.media_type == media.ADAPTER for new in layers):
        return
    weights = files.weights.header if files.weights else _base_header(base)
    adapters = [(file.name, file.header) for file in files.adapters]
    if not adapters and base.model:
        adapters = [(path.name, read_named(path, path.name)) for path in base.model.adapter_paths]
    for name, header in adapters:
        if misfit := find_misfit(weights, header):
            raise CreateRefused(f"the adapter {name} does not fit the model: {misfit}")


def _base_header(base: BaseLayers) -> Header:
    assert base.model, "a model without files has a base"
    assert base.model.model_path, "a model has weights, as `_check_models` has found"
    return read_named(base.model.model_path, base.model.name.short)


def _config(base: BaseLayers, spec: CreateSpec, files: NewFiles) -> Config:
    config = Config.of(files.weights.header) if files.weights else base.config
    projectors = [f.header.architecture for f in files.models if f.media_type == media.PROJECTOR]
    config = replace(
        config,
        model_families=(*(config.model_families or ()), *projectors) or None,
        renderer=spec.renderer or base.config.renderer or files.defaults.renderer,
        parser=spec.parser or base.config.parser or files.defaults.parser,
        requires=spec.requires or base.config.requires,
    )
    return replace(config, **spec.info)
