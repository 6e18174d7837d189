"""How a model is made of uploaded files and of a model that is here (CONTRACT 7.4)."""

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

Files = Mapping[str, str]  # digests of blobs, by the names that users know
Params = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What weights need and do not say themselves."""

    renderer: str
    parser: str
    stop: tuple[str, ...]


DEFAULTS: Final = {"gemma4": Defaults("gemma4", "gemma4", ("<turn|>",))}  # by architecture

_ADDED: Final = {media.MODEL, media.PROJECTOR, media.LICENSE}  # these do not replace the base's


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a model is to be made of; what is empty comes from `base`, if that has it."""

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


@dataclass(frozen=True, slots=True)
class Base:
    """What an order builds on; without a FROM that is nothing."""

    layers: tuple[Layer, ...] = ()
    config: Config = field(default_factory=Config)
    params: Params = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded GGUF; `name` is what its user calls it."""

    name: str
    blob: Blob
    header: Header

    @property
    def role(self) -> str:
        """The media type of the layer that it makes."""
        kind = self.header.text("general.type")
        if kind == "adapter":
            return media.ADAPTER
        is_projector = self.header.architecture == "clip" or kind in ("projector", "mmproj")
        return media.PROJECTOR if is_projector else media.MODEL


@dataclass(frozen=True, slots=True)
class Piece:
    """A layer of the model to be, with its content if that was not uploaded."""

    layer: Layer
    content: bytes | None = None

    @classmethod
    def of(cls, media_type: str, content: bytes) -> "Piece":
        return cls(Blob.of(content).layer(media_type), content)


async def create(store: Store, order: Order) -> AsyncGenerator[str, None]:
    """Makes the model and tells how it goes; files stay as they were uploaded.

    Nothing is written before the last step, which is not interrupted. Raises CreateRefused,
    InvalidDigest, ModelNotFound and DamagedModel, before the first status unless something was
    deleted meanwhile.
    """
    pieces = await in_thread(lambda _: _design(store, order))
    if order.files or order.draft_files or order.adapters:
        yield "parsing GGUF"
        yield "validating GGUF model"
    for piece in pieces:
        verb = "using existing" if store.blobs.has(piece.layer.digest) else "creating new"
        yield f"{verb} layer {piece.layer.digest}"
    yield "writing manifest"
    await in_thread(lambda _: _install(store, order.name, pieces))
    yield "success"


def _install(store: Store, name: Name, pieces: tuple[Piece, ...]) -> None:
    *layers, config = (piece.layer for piece in pieces)
    contents = [piece.content for piece in pieces if piece.content is not None]
    store.write(name, Manifest(config, tuple(layers)), contents)


def _design(store: Store, order: Order) -> tuple[Piece, ...]:
    """The layers of the model, and its config as the last of them."""
    base = _base(store, order.base)
    files = _parts(store, order.files)
    fresh = [
        *(Piece(part.blob.layer(part.role)) for part in files),
        *_drafts(store, order.draft_files),
        *_adapters(store, order.adapters),
        *_texts(order),
        *_params(base, order, files),
    ]
    pieces = _once([*_kept(base, fresh), *fresh])
    _check_roles(order, pieces)
    config = dump_config(_config(base, order, files), tuple(piece.layer for piece in pieces))
    return *pieces, Piece.of(media.CONFIG_TYPE, config)


def _kept(base: Base, fresh: list[Piece]) -> Iterator[Piece]:
    """The layers of the base that nothing replaces; licences and weights only add up."""
    replaced = {piece.layer.media_type for piece in fresh} - _ADDED
    if media.TEMPLATE in replaced:
        replaced.add(media.PROMPT)
    return (Piece(layer) for layer in base.layers if layer.media_type not in replaced)


def _base(store: Store, name: Name | None) -> Base:
    if name is None:
        return Base()
    model = store.resolve(name)
    layers = store.manifest(model.name).layers
    parent = model.name.short
    return Base(tuple(replace(la, source=parent) for la in layers), model.config, model.params)


def _parts(store: Store, files: Files) -> list[Part]:
    return [_part(store, name, digest) for name, digest in files.items()]


def _part(store: Store, name: str, digest: str) -> Part:
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
            f"{name} is one piece of a split model; join them with llama-gguf-split --merge"
        )
    return Part(name, Blob(path.name.replace("-", ":"), header.size_bytes), header)


def _drafts(store: Store, files: Files) -> list[Piece]:
    if len(files) > 1:
        raise CreateRefused(f"one file drafts for a model, not {' and '.join(files)}")
    for part in _parts(store, files):
        if part.role != media.MODEL:
            raise CreateRefused(f"{part.name} is no model, so it cannot draft for one")
        return [Piece(part.blob.layer(media.DRAFT))]
    return []


def _adapters(store: Store, files: Files) -> list[Piece]:
    if len(files) > 1:
        raise CreateRefused("only one adapter is currently supported")
    for part in _parts(store, files):
        if part.role != media.ADAPTER:
            raise CreateRefused(f"{part.name} is not an adapter")
        return [Piece(part.blob.layer(media.ADAPTER))]
    return []


def _weights(parts: list[Part]) -> Part | None:
    return next((part for part in parts if part.role == media.MODEL), None)


def _defaults(files: list[Part]) -> Defaults:
    weights = _weights(files)
    architecture = weights.header.architecture if weights else ""
    return DEFAULTS.get(architecture, Defaults("", "", ()))


def _texts(order: Order) -> Iterator[Piece]:
    texts = {media.TEMPLATE: order.template, media.SYSTEM: order.system}
    yield from (Piece.of(kind, text.encode()) for kind, text in texts.items() if text)
    if order.messages:
        yield Piece.of(media.MESSAGES, msgspec.json.encode(order.messages))
    yield from (Piece.of(media.LICENSE, text.encode()) for text in order.licenses if text)


def _params(base: Base, order: Order, files: list[Part]) -> Iterator[Piece]:
    """The parameters of the base, and over them those of the order."""
    stop = _defaults(files).stop
    params = {**({"stop": stop} if stop else {}), **base.params, **order.params}
    if params != base.params:
        yield Piece.of(media.PARAMS, msgspec.json.encode(params))


def _once(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Without what is there already, such as a licence that the base has too."""
    found: dict[tuple[str, str], Piece] = {}
    for piece in pieces:
        found.setdefault((piece.layer.media_type, piece.layer.digest), piece)
    return tuple(found.values())


def _check_roles(order: Order, pieces: tuple[Piece, ...]) -> None:
    """One file is the model, and it is not its own drafter; raises CreateRefused."""
    models = [p.layer.digest for p in pieces if p.layer.media_type == media.MODEL]
    drafts = [p.layer.digest for p in pieces if p.layer.media_type == media.DRAFT]
    names = ", ".join([*([order.base.short] if order.base else []), *order.files])
    if not models:
        raise CreateRefused(f"there are no GGUF weights of a model in {names}")
    if len(models) > 1:
        raise CreateRefused(f"more than one of these are models: {names}; name one with FROM")
    if models == drafts:
        raise CreateRefused("the drafter is the model itself; name a smaller one with DRAFT")


def _config(base: Base, order: Order, files: list[Part]) -> Config:
    weights = _weights(files)
    config = Config.of(weights.header) if weights else base.config
    defaults = _defaults(files)
    projectors = [part.header.architecture for part in files if part.role == media.PROJECTOR]
    return replace(
        config,
        model_families=(*(config.model_families or ()), *projectors) or None,
        renderer=order.renderer or base.config.renderer or defaults.renderer,
        parser=order.parser or base.config.parser or defaults.parser,
        requires=order.requires or base.config.requires,
    )
