"""What the daemon knows of the models on disk without loading them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import psutil

from ...models.errors import ModelNotFound
from ...models.model import StoredModel
from ...models.name import Name
from ...models.store import Store
from ...quant.gguf import EveryArray, GGUFError, Header, read_header
from ..config import Settings
from ..errors import NotFound, OutriderError
from ..options import Options
from ..protocol import Load

DEFAULT_NUM_CTX = 4096  # CONTRACT 5.4
POOL_CELLS = 32768
SHELF_SHARE = 16  # of the machine's memory one part is for prefixes
READ_SHARE = 6  # weights that take no more than one part are read, larger ones mapped
TEXTS_PER_BATCH = 32  # a sequence id each; those of an encoder cost nothing
DRAFTED = "gemma4"  # the architecture whose drafters are files of their own
BESIDE = ("mtp-*.gguf", "*assistant*.gguf")  # what such files are called
LAST_POOLING = 3  # llama.cpp's number for "the last token is the vector"
NOT_USED = "%s is not used as a drafter: %s"

Version = tuple[Path, int, int]  # of a file: when it, or who may read it, changed; and its size

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and the header of its weights."""

    model: StoredModel
    header: Header
    beside: Path | None = None  # a drafter for it, found in the folder of its weights

    @property
    def path(self) -> Path:
        """The file with the weights; a model without one is never made into a Known."""
        return self.header.path

    @property
    def capabilities(self) -> list[str]:
        """What a client may ask of it (CONTRACT 8.3)."""
        if self.header.pooling is not None:
            return ["embedding"]
        template = self.header.chat_template or ""
        thinks = "<think>" in template and "</think>" in template
        return ["completion", "thinking"] if thinks else ["completion"]

    def can(self, capability: str) -> bool:
        return capability in self.capabilities


class ModelIndex:
    """The store, and the headers that were read from it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._headers: dict[Version, Header] = {}
        self._broken: set[Version] = set()

    async def find(self, text: str, not_found: str) -> ModelInfo:
        """The model a client named. Raises NotFound with the text that its route uses."""
        name = Name.parse(text.strip())
        try:
            return await asyncio.to_thread(lambda: self._know(self.store.resolve(name)))
        except ModelNotFound:
            raise NotFound(not_found) from None

    async def list(self) -> list[tuple[StoredModel, ModelInfo | None]]:
        """Every model, the newest first; without a header where that cannot be read."""
        return await asyncio.to_thread(lambda: [(m, self._probe(m)) for m in self.store.list()])

    async def read_all(self, info: ModelInfo) -> Header:
        """The header with every array, however long."""
        return await asyncio.to_thread(read_header, info.path, arrays=EveryArray())

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
        return ModelInfo(model, header, self._find_beside(header))

    def _read(self, path: Path) -> Header:
        """The header of a file, read once for each version of it."""
        version = _version(path)
        if version not in self._headers:
            self._headers[version] = read_header(path)
        return self._headers[version]

    def _find_beside(self, header: Header) -> Path | None:
        """A file there that drafts for targets of this kind and width (GUIDE 2.1)."""
        if header.architecture != DRAFTED:
            return None
        width = header.number(f"{DRAFTED}.embedding_length")
        folder = header.path.resolve().parent
        for path in sorted({path for name in BESIDE for path in folder.glob(name)}):
            other = self._read_beside(path)
            if other and other.number(f"{DRAFTED}-assistant.embedding_length_out") == width:
                return path
        return None

    def _read_beside(self, path: Path) -> Header | None:
        """None for a file that is broken, which is told once for each version of it."""
        try:
            version = _version(path)
            if version in self._broken:
                return None
            return self._read(path)
        except GGUFError as error:
            self._broken.add(version)
            log.warning(NOT_USED, path, error)
        except OSError as error:  # a link that leads nowhere
            log.warning(NOT_USED, path, error)
        return None


def _version(path: Path) -> Version:
    stat = os.stat(path)
    return path, stat.st_ctime_ns, stat.st_size


def plan_load(info: ModelInfo, options: Options, settings: Settings) -> Load:
    """How a model is to be loaded for a request.

    Every slot gets its whole context while that costs no more than POOL_CELLS; with a longer
    context the slots share one (CONTRACT 5.2 and 5.4).
    """
    spec = options.num_ctx or settings.context_length or DEFAULT_NUM_CTX
    num_ctx = max(4, min(spec, info.header.context_length or spec))
    slots = settings.num_parallel
    cells = _round_up(max(num_ctx, min(num_ctx * slots, POOL_CELLS)), 256)
    draft = str(info.model.draft_path or settings.draft or info.beside or "")
    has_mtp = info.header.has_mtp and not draft
    load = Load(
        model=str(info.path),
        num_ctx=num_ctx,
        cells=cells,
        slots=slots,
        batch=max(slots, min(max(options.num_batch, 32), cells)),
        gpu_layers=options.num_gpu,
        main_gpu=options.main_gpu,
        use_mmap=_use_mmap(info, options),
        kv_type=settings.kv_cache_type,
        draft=draft,
        mtp=has_mtp and settings.speculation != 0,
        speculation=settings.speculation,
        host_cache_bytes=_memory_bytes() // SHELF_SHARE,
        threads=options.num_thread or _num_cores(),
    )
    return msgspec.structs.replace(load, profile=str(_profile(load, settings.cache_home)))


def _use_mmap(info: ModelInfo, options: Options) -> bool | None:
    """What is read lies in huge pages (`child.RUNNER_ENV`), which a file's pages seldom can: steps
    are 2 to 4 % shorter. What is mapped can be dropped where memory is short."""
    is_small = info.header.size_bytes * READ_SHARE <= _memory_bytes()
    if options.use_mmap is None and is_small and sys.platform == "linux":
        return False
    return options.use_mmap


def _profile(load: Load, cache_home: Path) -> Path:
    """Where what is learned about these weights in this shape on this machine is kept.

    A blob's path names its digest.
    """
    machine = (platform.machine(), platform.processor(), _num_cores(), load.main_gpu)
    shape = (load.gpu_layers, load.threads, load.kv_type, load.slots)
    key = repr((load.model, load.draft, machine, shape)).encode()
    return cache_home / "outrider" / "learned" / f"{hashlib.sha256(key).hexdigest()[:24]}.json"


def plan_embedding(info: ModelInfo, options: Options, settings: Settings) -> Load:
    """How a model is to be loaded for embeddings; texts leave nothing behind in its cache.

    An encoder reads a text as a whole, so one batch has to hold the longest (GUIDE 1.13). Where
    the last token is the vector, or pooling is an afterthought, a text may come in pieces.
    """
    load = plan_load(info, options, settings)
    is_whole = info.header.pooling not in (None, LAST_POOLING)
    rows = max(TEXTS_PER_BATCH, load.batch, load.num_ctx if is_whole else 0)
    cells = _round_up(max(load.num_ctx, rows), 256)
    return msgspec.structs.replace(
        load, embedding=True, draft="", mtp=False, slots=TEXTS_PER_BATCH, batch=rows, cells=cells
    )


@cache
def _num_cores() -> int:
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


@cache
def _memory_bytes() -> int:
    return int(psutil.virtual_memory().total)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
