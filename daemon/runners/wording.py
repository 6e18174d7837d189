"""How is a choice worded as a Load, and which sizes does that have?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...quant.memory import (
    CELL_STEP,
    ContextShape,
    MemoryEstimate,
    ModelHeaders,
    Placement,
    has_states,
)
from ..config import Settings
from ..options import Options
from ..protocol import Load
from .fit import LoadChoice
from .machine import Machine
from .model_info import ModelInfo
from .wish import DrafterFiles, evaluates_whole

SHARED_CELLS = 32768  # KV cells up to which every slot has a whole context of its own
MIN_BATCH = 32  # rows
THREADS_PER_CORE = 2  # at most; more threads than a core runs at once only wait for each other
HOST_CACHE_DIVISOR = 16  # the host cache may take one part of the memory in so many
READ_DIVISOR = 6  # weights up to one part of the memory in so many are read instead of mapped
TEXTS_PER_BATCH = 32  # sequences of an embedding context; for encoders they cost no memory
MAX_RELEASED = 16  # sequences for released prefixes, as the runner makes them (llama/context.py)
MAX_SNAPSHOTS = 4  # states of a sequence that drafts can be rolled back to (GUIDE 4.4)

Estimate = Callable[[ModelHeaders, ContextShape, Placement], MemoryEstimate]
"""What a load takes on each device, from headers alone (quant/memory.py)."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """All that decides how a model is loaded."""

    info: ModelInfo
    options: Options
    settings: Settings
    machine: Machine
    embedding: bool = False


def word_load(request: LoadRequest, choice: LoadChoice) -> Load:
    """The message that loads a model by this choice.

    Every slot has a whole context as long as all of them need no more than SHARED_CELLS; with a
    longer context the slots share the cells of one (CONTRACT 5.2 and 5.4).
    """
    info, options, settings, machine = (
        request.info,
        request.options,
        request.settings,
        request.machine,
    )
    threads = _threads(options, machine)
    cells, slots, batch = _rows(request, choice)
    load = Load(
        model=str(info.path),
        num_ctx=choice.num_ctx,
        cells=cells,
        slots=slots,
        batch=batch,
        gpu_layers=choice.placement.gpu_layers if machine.gpus else options.num_gpu,
        main_gpu=choice.main_gpu,
        tensor_split=choice.placement.split if len(machine.gpus) > 1 else (),
        host_experts=choice.placement.host_experts,
        use_mmap=_use_mmap(info, options, machine),
        kv_type=choice.kv_type,
        adapters=tuple(map(str, info.model.adapter_paths)),
        draft=choice.drafter.path,
        mtp=choice.drafter.mtp,
        speculation=settings.speculation,
        host_cache_bytes=machine.memory_bytes // HOST_CACHE_DIVISOR,
        threads=threads,
        adapts_threads=options.num_thread <= 0,
        # Fewer threads would share the first cores.
        bind_threads=threads == machine.physical_cores and machine.places != "",
        places=machine.places,
        background=settings.priority == "background",
        flash_attention=settings.flash_attention,
        confined=settings.sandbox == "on",
        embedding=request.embedding,
    )
    profile = _profile_path(load, settings.cache_home, machine)
    return msgspec.structs.replace(load, profile=str(profile))


def need_of(request: LoadRequest, choice: LoadChoice, estimate: Estimate) -> MemoryEstimate:
    """What the choice takes."""
    cells, slots, batch = _rows(request, choice)
    header, embedding = request.info.header, request.embedding
    drafts = not embedding and request.settings.speculation != 0
    released = -(-slots // 2) if has_states(header) else min(slots * 2, MAX_RELEASED)
    shape = ContextShape(
        cells,
        slots + (0 if embedding else released),
        batch,
        choice.kv_type,
        min(MAX_SNAPSHOTS, batch - 2) if drafts else 0,
        slots=slots,
        outputs=max(slots, batch) if embedding else 0,
        is_flash=request.settings.flash_attention is not False,
    )
    return estimate(headers_of(request.info, choice.drafter), shape, choice.placement)


def headers_of(info: ModelInfo, drafter: DrafterFiles) -> ModelHeaders:
    """The headers of the files that are loaded. Projectors are not used yet."""
    return ModelHeaders(
        info.header, drafter.header, adapter_bytes=info.adapter_bytes, mtp=drafter.mtp
    )


def maps_weights(request: LoadRequest) -> bool:
    """Whether the user accepts that weights are dropped and read again where memory is short."""
    return request.options.use_mmap is True and not request.machine.gpus


def _rows(request: LoadRequest, choice: LoadChoice) -> tuple[int, int, int]:
    """KV cells, sequences, and rows of a batch.

    No text of an embedding model leaves anything in the cache. An encoder evaluates a text as a
    whole, so one batch holds the longest (GUIDE 1.13).
    """
    num_ctx, asked = choice.num_ctx, max(request.options.num_batch, MIN_BATCH)
    if not request.embedding:
        slots = choice.slots
        cells = _round_up(max(num_ctx, min(num_ctx * slots, SHARED_CELLS)))
        return cells, slots, max(slots, min(asked, cells))
    is_whole = evaluates_whole(request.info.header)
    rows = max(TEXTS_PER_BATCH, min(asked, _round_up(num_ctx)), num_ctx if is_whole else 0)
    return _round_up(max(num_ctx, rows)), TEXTS_PER_BATCH, rows


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
    layers = (load.gpu_layers, load.tensor_split, load.host_experts)
    shape = (layers, load.threads, load.kv_type, load.slots)
    key = repr((load.model, *load.adapters, load.draft, hardware, shape)).encode()
    return cache_home / "outrider" / "speculation" / f"{hashlib.sha256(key).hexdigest()[:24]}.json"


def _round_up(cells: int) -> int:
    return -(-cells // CELL_STEP) * CELL_STEP
