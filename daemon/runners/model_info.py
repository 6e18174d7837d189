"""What is on disk: the models of the store with the headers of their weights."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...models.errors import ModelNotFound
from ...models.model import StoredModel
from ...models.name import Name
from ...models.store import Store
from ...quant.gguf import EveryArray, GGUFError, Header, read_header
from ..chat.choose import CAPABILITIES, ChatChoice, ChatModel, choose
from ..chat.format import JINJA, ChatFormat
from ..chat.render.builtin.registry import RENDERERS
from ..errors import NotFound, OutriderError
from .lru_cache import LruCache
from .reference import NO_MODEL, Reference, parse_reference, refuse_remote

DRAFTED = "gemma4"  # the architecture whose drafters are files of their own (GUIDE 2.1)
DRAFTER_NAMES = ("mtp-*.gguf", "*assistant*.gguf")  # file names of such drafters
MAX_KNOWN = 512  # files and models that are remembered; a header takes some 100 kB
NOT_USED = "%s is not used as a drafter: %s"

Version = tuple[Path, int, int]  # of a file: when it, or who may read it, changed; and its size

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and the header of its weights."""

    model: StoredModel
    header: Header
    chat: ChatChoice
    adjacent_drafter: Path | None = None  # a drafter for it in the folder of its weights
    drafter: Header | None = (
        None  # of the file that drafts: the model's own, the settings', adjacent
    )
    adapter_bytes: int = 0  # of all its adapters

    @property
    def path(self) -> Path:
        """The file with the weights."""
        return self.header.path

    @property
    def chat_format(self) -> ChatFormat:
        """How its conversations are worded and its outputs read (CONTRACT 8.1)."""
        return self.chat.format

    @property
    def uses_jinja(self) -> bool:
        """Whether its conversations are worded by the chat template in the GGUF file."""
        return not self.chat.format.renderer and self.chat.format.language == JINJA

    @property
    def capabilities(self) -> list[str]:
        """What a client may ask of it (CONTRACT 8.3).

        Of those that the config states, the ones count that concern chats.
        """
        if self.header.pooling is not None:
            return ["embedding"]
        found = {*self.chat.capabilities, *self.model.config.capabilities}
        return ["completion", *(name for name in CAPABILITIES if name in found)]

    def can(self, capability: str) -> bool:
        return capability in self.capabilities

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the model stores and the daemon does not use, one sentence each."""
        unused = "the projector is not used yet: images are refused"
        return (*self.chat.warnings, *((unused,) if self.model.projector_paths else ()))


class ModelIndex:
    """The store, and the headers that were read from it."""

    def __init__(
        self, store: Store, *, prefers_go: bool | None = None, draft: Path | None = None
    ) -> None:
        """`prefers_go`: whether Go templates go before Jinja templates; None: the better one.

        `draft`: the drafter for models that have none of their own.
        """
        self.store = store
        self._draft = draft
        self._prefers_go = prefers_go
        self._headers: LruCache[Version, Header] = LruCache(MAX_KNOWN)
        self._choices: LruCache[tuple[Name, str, Version], ChatChoice] = LruCache(MAX_KNOWN)
        self._broken: LruCache[Version, None] = LruCache(MAX_KNOWN)
        self._warned: LruCache[str, None] = LruCache(MAX_KNOWN)  # digests of models

    async def find(self, text: str, not_found: str, refusal: str = NO_MODEL) -> ModelInfo:
        """The model of that name.

        Raises NotFound with the text of the route, and CloudDisabled with the text `refusal`.
        """
        reference = parse_reference(text, refusal)

        def find() -> ModelInfo:
            model = self._resolve(reference)
            refuse_remote(model, reference, not_found, refusal)
            return self._know(model)

        try:
            return await asyncio.to_thread(find)
        except ModelNotFound:
            raise NotFound(not_found) from None

    async def list(self) -> list[tuple[StoredModel, ModelInfo | None]]:
        """Every model, the newest first; without a header where that cannot be read."""

        def probe() -> list[tuple[StoredModel, ModelInfo | None]]:
            found = [(model, self._probe(model)) for model in self.store.list()]
            self._forget(model for model, _ in found)
            return found

        return await asyncio.to_thread(probe)

    def log_warnings(self, info: ModelInfo) -> None:
        """Log what the daemon does not use of a model, once while it runs."""
        if info.model.digest not in self._warned:
            self._warned.put(info.model.digest, None)
            for sentence in info.warnings:
                log.warning("%s: %s", info.model.name.short, sentence)

    async def read_all(self, info: ModelInfo) -> Header:
        """The header with every array, however long."""
        return await asyncio.to_thread(read_header, info.path, arrays=EveryArray())

    async def read_projectors(self, info: ModelInfo) -> Header | None:
        """The header of the projector; None if there is none that can be read."""
        for path in info.model.projector_paths:
            try:
                return await asyncio.to_thread(self._read, path)
            except (GGUFError, OSError) as error:
                log.warning("the projector %s cannot be read: %s", path, error)
        return None

    def _resolve(self, reference: Reference) -> StoredModel:
        """Raises ModelNotFound."""
        try:
            return self.store.resolve(reference.name)
        except ModelNotFound:
            return self.store.resolve(reference.literal)

    def _probe(self, model: StoredModel) -> ModelInfo | None:
        try:
            return self._know(model)
        except (GGUFError, OutriderError):
            return None

    def _know(self, model: StoredModel) -> ModelInfo:
        if model.model_path is None:
            raise OutriderError(
                f"{model.name.short} holds no GGUF weights; Outrider serves GGUF models only"
            )
        header = self._read(model.model_path)
        adjacent = self._find_drafter(header)
        draft_path = model.draft_path or self._draft or adjacent
        drafter = self.read_drafter(draft_path) if draft_path else None
        adapter_bytes = sum(path.stat().st_size for path in model.adapter_paths)
        choice = self._choose(model, header)
        return ModelInfo(model, header, choice, adjacent, drafter, adapter_bytes)

    def _choose(self, model: StoredModel, header: Header) -> ChatChoice:
        """The choice for a model, made once for each version of it: templates are parsed."""
        key = model.name, model.digest, _version(header.path)

        def make() -> ChatChoice:
            facts = _chat_facts(model, header)
            return choose(facts, renderers=RENDERERS, prefers_go=self._prefers_go)

        return self._choices.get(key, make)

    def _forget(self, stored: Iterable[StoredModel]) -> None:
        """Forget what belongs to models, or to versions of them, that are gone."""
        models = {(model.name, model.digest) for model in stored}
        self._choices.keep(lambda key: key[:2] in models)
        self._headers.keep(_is_there)

    def _read(self, path: Path) -> Header:
        """The header of a file, read once for each version of it."""
        return self._headers.get(_version(path), lambda: read_header(path))

    def _find_drafter(self, header: Header) -> Path | None:
        """A drafter beside the weights whose target has this width (GUIDE 2.1)."""
        if header.architecture != DRAFTED:
            return None
        width = header.number(f"{DRAFTED}.embedding_length")
        folder = header.path.resolve().parent
        for path in sorted({path for name in DRAFTER_NAMES for path in folder.glob(name)}):
            other = self.read_drafter(path)
            if other and other.number(f"{DRAFTED}-assistant.embedding_length_out") == width:
                return path
        return None

    def read_drafter(self, path: Path) -> Header | None:
        """None for a broken file; each version of it is logged once."""
        try:
            version = _version(path)
            return None if version in self._broken else self._read(path)
        except GGUFError as error:
            self._broken.put(version, None)
            log.warning(NOT_USED, path, error)
        except OSError as error:  # a link that leads nowhere
            log.warning(NOT_USED, path, error)
        return None


def _chat_facts(model: StoredModel, header: Header) -> ChatModel:
    return ChatModel(
        name=model.name.short,
        family=model.config.model_family or header.architecture,
        parameter_count=header.parameter_count,
        renderer=model.config.renderer,
        parser=model.config.parser,
        go_template=model.template,
        jinja=header.chat_template,
    )


def _is_there(version: Version) -> bool:
    try:
        return _version(version[0]) == version
    except OSError:
        return False


def _version(path: Path) -> Version:
    stat = os.stat(path)
    return path, stat.st_ctime_ns, stat.st_size
