"""How is a model loaded for a request? Pure functions of model, options, settings and machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ...quant.memory import (
    CELL_STEP,
    ContextShape,
    MemoryEstimate,
    ModelHeaders,
    estimate_memory,
    has_states,
)
from ..config import Settings
from ..options import Options
from ..protocol import Load
from .machine import MEMORY_SHARE, Machine
from .model_info import ModelInfo

DEFAULT_NUM_CTX = 4096  # tokens, CONTRACT 5.4
MIN_NUM_CTX = 4  # tokens
SHARED_CELLS = 32768  # KV cells up to which every slot has a whole context of its own
MIN_BATCH = 32  # rows
AUTO_SLOTS = (4, 2, 1)  # slots to choose from where no number is set; the first that fits
THREADS_PER_CORE = 2  # at most; more threads than a core runs at once only wait for each other
MIN_VISION_CTX = 2048  # tokens; an image takes hundreds of them (CONTRACT 5.4)
HOST_CACHE_DIVISOR = 16  # the host cache may take one part of the memory in so many
READ_DIVISOR = 6  # weights up to one part of the memory in so many are read instead of mapped
TEXTS_PER_BATCH = 32  # sequences of an embedding context; for encoders they cost no memory
MAX_SNAPSHOTS = 4  # states of a sequence that drafts can be rolled back to (GUIDE 4.4)
LAST_POOLING = 3  # LLAMA_POOLING_TYPE_LAST: the last token's row is the vector (GUIDE 1.13)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a model is loaded, and what that is expected to take."""

    load: Load
    need: MemoryEstimate
    concessions: tuple[str, ...] = ()
    """What was given up to make it fit, in that order, a sentence each."""
    warnings: tuple[str, ...] = ()
    """What each client is told, such as that layers are on the CPU; a sentence each."""


def plan_load(info: ModelInfo, options: Options, settings: Settings, machine: Machine) -> LoadPlan:
    """The plan for text, with as many slots as the settings say, or else as memory allows."""
    choices = (settings.num_parallel,) if settings.num_parallel else AUTO_SLOTS
    plans = (_plan_slots(info, options, settings, machine, slots) for slots in choices)
    for plan in plans:
        if plan.need.total_bytes <= MEMORY_SHARE * machine.memory_bytes:
            return plan
    return plan


def _plan_slots(
    info: ModelInfo, options: Options, settings: Settings, machine: Machine, slots: int
) -> LoadPlan:
    """The plan for this number of slots.

    Every slot has a whole context as long as all of them need no more than SHARED_CELLS; with a
    longer context the slots share the cells of one (CONTRACT 5.2 and 5.4).
    """
    num_ctx, threads = _context_length(info, options, settings), _threads(options, machine)
    cells = _round_up(max(num_ctx, min(num_ctx * slots, SHARED_CELLS)))
    draft = str(info.model.draft_path or settings.draft or info.adjacent_drafter or "")
    load = Load(
        model=str(info.path),
        num_ctx=num_ctx,
        cells=cells,
        slots=slots,
        batch=max(slots, min(max(options.num_batch, MIN_BATCH), cells)),
        gpu_layers=options.num_gpu,
        main_gpu=options.main_gpu,
        use_mmap=_use_mmap(info, options, machine),
        kv_type=settings.kv_cache_type,
        adapters=tuple(map(str, info.model.adapter_paths)),
        draft=draft,
        mtp=info.header.has_mtp and not draft and settings.speculation != 0,
        speculation=settings.speculation,
        host_cache_bytes=machine.memory_bytes // HOST_CACHE_DIVISOR,
        threads=threads,
        # Fewer threads would share the first cores.
        bind_threads=threads == machine.physical_cores and machine.places != "",
        places=machine.places,
        background=settings.priority == "background",
        flash_attention=settings.flash_attention,
    )
    profile = _profile_path(load, settings.cache_home, machine)
    return _planned(info, msgspec.structs.replace(load, profile=str(profile)))


def plan_embedding(
    info: ModelInfo, options: Options, settings: Settings, machine: Machine
) -> LoadPlan:
    """The plan for embeddings. No text leaves anything in the cache.

    An encoder evaluates a text as a whole, so one batch holds the longest (GUIDE 1.13). Where the
    last token's row is the vector, or the model has no pooling of its own, a text may come in
    pieces.
    """
    load = plan_load(info, options, settings, machine).load
    is_whole = info.header.pooling not in (None, LAST_POOLING)
    rows = max(TEXTS_PER_BATCH, load.batch, load.num_ctx if is_whole else 0)
    cells = _round_up(max(load.num_ctx, rows))
    load = msgspec.structs.replace(
        load, embedding=True, draft="", mtp=False, slots=TEXTS_PER_BATCH, batch=rows, cells=cells
    )
    return _planned(info, load)


def _planned(info: ModelInfo, load: Load) -> LoadPlan:
    drafts = not load.embedding and load.speculation != 0
    released = -(-load.slots // 2) if has_states(info.header) and not load.embedding else 0
    shape = ContextShape(
        load.cells,
        load.slots + released,  # as the runner makes its context (llama/context.py, num_seqs)
        load.batch,
        load.kv_type,
        min(MAX_SNAPSHOTS, load.batch - 2) if drafts else 0,
    )
    headers = ModelHeaders(info.header, adapter_bytes=info.adapter_bytes)
    need = estimate_memory(headers, shape)
    drafter_bytes = info.drafter_bytes if load.draft else 0
    return LoadPlan(load, replace(need, host=replace(need.host, drafter_bytes=drafter_bytes)))


def _context_length(info: ModelInfo, options: Options, settings: Settings) -> int:
    """Tokens of context (CONTRACT 5.4); a request for none, or for fewer than none, has no wish."""
    wish = max(options.num_ctx, 0) or settings.context_length or DEFAULT_NUM_CTX
    least = MIN_VISION_CTX if info.model.projector_paths else MIN_NUM_CTX
    num_tokens = max(wish, least)
    return max(MIN_NUM_CTX, min(num_tokens, info.header.context_length or num_tokens))


def _threads(options: Options, machine: Machine) -> int:
    """0 and negative numbers leave the choice to the daemon."""
    if options.num_thread <= 0:
        return machine.physical_cores
    return min(options.num_thread, THREADS_PER_CORE * machine.physical_cores)


def _use_mmap(info: ModelInfo, options: Options, machine: Machine) -> bool | None:
    """Weights that are read lie in huge pages, which a mapped file seldom does: steps are 2 to 4 %
    shorter (measured on Linux). Mapped weights can be dropped where memory is short, and all
    runners share them: those of a model with an adapter and of the same weights without."""
    is_small = info.header.size_bytes * READ_DIVISOR <= machine.memory_bytes
    is_alone = not info.model.adapter_paths
    if options.use_mmap is None and is_small and is_alone and machine.system == "linux":
        return False
    return options.use_mmap


def _profile_path(load: Load, cache_home: Path, machine: Machine) -> Path:
    """Where the measured costs of these weights, loaded like this on this machine, are kept.

    A blob's path names its digest.
    """
    hardware = (machine.processor, machine.physical_cores, load.main_gpu)
    shape = (load.gpu_layers, load.threads, load.kv_type, load.slots)
    key = repr((load.model, *load.adapters, load.draft, hardware, shape)).encode()
    return cache_home / "outrider" / "speculation" / f"{hashlib.sha256(key).hexdigest()[:24]}.json"


def _round_up(cells: int) -> int:
    return -(-cells // CELL_STEP) * CELL_STEP
