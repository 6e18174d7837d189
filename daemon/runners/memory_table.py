"""What do a plan and a loaded model take, by device and part, as fields of JSON?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise, zip_longest
from math import ceil

import msgspec

from ..protocol import DeviceBytes, Load
from .loaded_model import LoadedModel
from .machine import HOST, Gpu, Machine
from .model_info import ModelInfo
from .plan import LoadPlan

PARTS = (  # fields of a row; those of PartBytes, of which DeviceBytes has some
    *("weights_bytes", "cache_bytes", "compute_bytes", "adapter_bytes"),
    *("drafter_bytes", "projector_bytes", "overhead_bytes", "growth_bytes"),
)

Row = dict[str, object]  # of one device


def describe_plan(plan: LoadPlan, info: ModelInfo, machine: Machine) -> Row:
    """A plan with its rows, one for each device, and how the model would be loaded."""
    load = plan.load
    return {
        "planned_bytes": plan.need.total_bytes,
        "devices": _planned_rows(plan, info, machine),
        "context_length": load.num_ctx,
        "slots": load.slots,
        "cells": load.cells,
        "kv_cache_type": load.kv_type,
        "batch": load.batch,
        "host_experts": load.host_experts,
        "drafter": _drafter(load),
        "concessions": list(plan.concessions),
        "warnings": list(plan.warnings),
    }


def describe_loaded(loaded: LoadedModel) -> Row:
    """What a loaded model takes, measured, beside what was planned."""
    plan = loaded.plan
    return {
        "devices": [_measured_row(device) for device in loaded.runner.ready.devices],
        "planned_bytes": plan.need.total_bytes,
        "concessions": list(plan.concessions),
        "warnings": list(loaded.warnings),
    }


def measured_parts(loaded: LoadedModel) -> Iterable[tuple[str, str, int]]:
    """Device, part and bytes of everything that a loaded model takes."""
    for device in loaded.runner.ready.devices:
        row = msgspec.structs.asdict(device)
        yield from (
            (device.device, part.removesuffix("_bytes"), row[part]) for part in PARTS if part in row
        )


def layers_by_device(load: Load, num_layers: int, gpus: Sequence[Gpu]) -> list[int]:
    """Layers on the host, then on each GPU; the output counts as one more.

    llama.cpp gives the last layers and the output to the GPUs, in their order, by `tensor_split`,
    and without one by their free memory.
    """
    total = num_layers + 1
    on_gpus = total if load.gpu_layers < 0 else min(load.gpu_layers, total)
    shares = load.tensor_split or tuple(float(gpu.free_bytes) for gpu in gpus)
    if not gpus or not sum(shares):
        return [total]
    ends = [ceil(on_gpus * end / sum(shares)) for end in accumulate(shares)]
    return [total - on_gpus, *(end - start for start, end in pairwise((0, *ends)))]


def _planned_rows(plan: LoadPlan, info: ModelInfo, machine: Machine) -> list[Row]:
    need, gpus = plan.need, machine.gpus
    num_layers = info.header.number(f"{info.header.architecture}.block_count") or 0
    layers = layers_by_device(plan.load, num_layers, gpus)
    free_bytes = (
        machine.memory_bytes if machine.available_bytes is None else machine.available_bytes
    )
    host = Gpu(HOST, machine.processor, machine.memory_bytes, free_bytes)
    rows = zip_longest((host, *gpus), (need.host, *need.gpus), layers)
    return [
        {
            "device": device.name if device else f"GPU{number - 1}",
            "description": device.description if device else "",
            "is_gpu": number > 0,
            "layers": count or 0,
            **{part: getattr(parts, part, 0) for part in PARTS},
            "planned_bytes": parts.total_bytes if parts else 0,
            "free_bytes": device.free_bytes if device else 0,
            "total_bytes": device.total_bytes if device else 0,
        }
        for number, (device, parts, count) in enumerate(rows)
    ]


def _measured_row(device: DeviceBytes) -> Row:
    row = msgspec.structs.asdict(device)
    return {**row, "measured_bytes": sum(row.get(part, 0) for part in PARTS)}


def _drafter(load: Load) -> str:
    """The path of the drafter; "mtp" for the head in the model's own weights; "" for none."""
    return load.draft or ("mtp" if load.mtp else "")
