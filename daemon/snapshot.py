"""What is the daemon doing right now? One frozen value, for the page and for `outrider top`.

Totals, not rates: whoever looks has two snapshots, and divides by the seconds between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from .protocol import DeviceBytes, DrafterCounts, RowCost, SpeculationDetail, Stats
from .runners.loaded_model import LoadedModel
from .runners.machine import Machine
from .runners.pool_counters import PoolCounters

NS = 1e-9  # seconds
NO_DETAIL = SpeculationDetail()


class SpeculationState(msgspec.Struct, frozen=True):
    """What speculation did since the model was loaded."""

    drafters: tuple[str, ...]
    refusal: str  # why a drafter is not used; "": none was refused
    drafted: int  # draft tokens that were verified
    accepted: int
    drafts: int  # of one stream in one step
    speedup: float  # over plain decoding, estimated; 1.0 before anything was decoded
    misjudged: float  # mean absolute error of the expected step times, as a share of them
    by_drafter: tuple[DrafterCounts, ...]
    verify_costs: tuple[RowCost, ...]
    draft_costs: tuple[RowCost, ...]


class ModelState(msgspec.Struct, frozen=True):
    """A loaded model."""

    name: str
    is_embedding: bool
    devices: tuple[DeviceBytes, ...]  # memory by part, measured
    planned_bytes: int
    context_length: int  # tokens of one request
    kv_type: str
    slots: int
    slots_busy: int
    waiting: int  # requests for a slot
    leases: int  # requests, also those that are being prepared or whose client reads slowly
    cells: int
    cells_used: int
    expires_in_s: float | None  # seconds after the last request; None: never
    prompt_tokens: int
    cached_tokens: int
    decoded_tokens: int
    steps: int
    step_s: float
    decode_s: float  # of step_s, inside llama.cpp
    preempted: int
    warnings: tuple[str, ...]
    speculation: SpeculationState | None  # None: no drafter, and none was refused


class RequestState(msgspec.Struct, frozen=True):
    """A request, running or recent. Nothing of its text is kept."""

    number: int  # since the daemon started
    started_at: float  # Unix time, seconds
    route: str  # method and path as the daemon names it
    model: str  # "": none was found, or none is meant
    status: int  # of HTTP; 0: still running; 499: the client left
    ending: str  # "stop", "length" ...; "failed"; "": there is no text, or it still comes
    took_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    first_s: float | None = None  # from its arrival to its first token
    tokens_per_s: float | None = None
    drafted: int = 0
    accepted: int = 0


class MachineState(msgspec.Struct, frozen=True):
    """What models may take."""

    memory_bytes: int  # of the host, for all models together
    gpus: tuple[tuple[str, str, int], ...]  # name, description, bytes of each


class Snapshot(msgspec.Struct, frozen=True):
    """All of it at one moment."""

    version: str
    taken_at: float  # Unix time, seconds
    clock_s: float  # monotonic, for rates
    uptime_s: float
    machine: MachineState
    models: tuple[ModelState, ...]
    waiting_for_load: int  # requests
    loads: int  # since the daemon started, as the next two
    evictions: int
    refusals: int  # loads that cannot fit
    running: tuple[RequestState, ...]  # the oldest first
    recent: tuple[RequestState, ...]  # ended; the newest first


@dataclass(frozen=True, slots=True)
class Moment:
    """When a snapshot is taken, and by whom."""

    version: str
    taken_at: float  # Unix time, seconds
    clock_s: float  # monotonic
    started_s: float  # of the daemon, on the same clock


def take_snapshot(
    moment: Moment,
    machine: Machine,
    models: Iterable[LoadedModel],
    queue: tuple[int, PoolCounters],
    requests: tuple[Sequence[RequestState], Sequence[RequestState]],
) -> Snapshot:
    """The state of the daemon. `queue`: requests that wait for a load, and what loads did so far.
    `requests`: the running and the recent ones."""
    waiting, counters = queue
    running, recent = requests
    return Snapshot(
        version=moment.version,
        taken_at=moment.taken_at,
        clock_s=moment.clock_s,
        uptime_s=moment.clock_s - moment.started_s,
        machine=MachineState(
            machine.memory_bytes,
            tuple((gpu.name, gpu.description, gpu.total_bytes) for gpu in machine.gpus),
        ),
        models=tuple(map(describe_model, models)),
        waiting_for_load=waiting,
        loads=counters.loads.total(),
        evictions=counters.evictions.total(),
        refusals=counters.refusals.total(),
        running=tuple(running),
        recent=tuple(recent),
    )


def describe_model(loaded: LoadedModel) -> ModelState:
    """One loaded model."""
    stats, load, ready = loaded.runner.stats, loaded.load, loaded.runner.ready
    expires_in_s = loaded.expires_in_s
    return ModelState(
        name=loaded.spec.name,
        is_embedding=load.embedding,
        devices=ready.devices,
        planned_bytes=loaded.plan.need.total_bytes,
        context_length=load.num_ctx,
        kv_type=load.kv_type,
        slots=load.slots,
        slots_busy=stats.slots_busy,
        waiting=stats.waiting,
        leases=loaded.users,
        cells=load.cells,
        cells_used=stats.cells_used,
        expires_in_s=max(expires_in_s, 0.0) if math.isfinite(expires_in_s) else None,
        prompt_tokens=stats.prompt_tokens,
        cached_tokens=stats.cached_tokens,
        decoded_tokens=stats.decoded_tokens,
        steps=stats.steps,
        step_s=stats.step_ns * NS,
        decode_s=stats.decode_ns * NS,
        preempted=stats.preempted,
        warnings=loaded.warnings,
        speculation=_speculation(ready.drafters, ready.refusal, stats),
    )


def _speculation(drafters: tuple[str, ...], refusal: str, stats: Stats) -> SpeculationState | None:
    if not (drafters or refusal):
        return None
    detail = stats.detail or NO_DETAIL
    return SpeculationState(
        drafters=drafters,
        refusal=refusal,
        drafted=stats.drafted_tokens,
        accepted=stats.accepted_tokens,
        drafts=stats.drafts,
        speedup=stats.plain_ns / stats.speculated_ns if stats.speculated_ns else 1.0,
        misjudged=stats.misjudged_ns / stats.expected_ns if stats.expected_ns else 0.0,
        by_drafter=detail.drafters,
        verify_costs=detail.verify_costs,
        draft_costs=detail.draft_costs,
    )
