"""How are the memory of a plan and of a loaded model shown: a column for each device?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from . import humanize, table
from .client import Json

PARTS = {  # field of a device: its row
    "weights_bytes": "weights",
    "cache_bytes": "KV cache",
    "compute_bytes": "compute",
    "drafter_bytes": "drafter",
    "projector_bytes": "projector",
    "adapter_bytes": "adapters",
    "overhead_bytes": "overhead",
    "growth_bytes": "growth",
}
OTHER_MACHINE = "Planned for {}, beside this machine's own memory for the CPU."
BLOB = "sha256-"  # how the name of a file begins that is a layer of a model
NO_GPU = "Planned for the CPU alone, with this machine's own memory."


def planned(answer: Json, memory: Sequence[int] | None) -> str:
    """`outrider plan`: the answer of POST /api/plan; `memory`: of the GPUs that were asked for."""
    devices = answer.get("devices") or []
    extra = [
        ("total", *(humanize.memory(device.get("planned_bytes", 0)) for device in devices)),
        ("free", *(humanize.memory(device.get("free_bytes", 0)) for device in devices)),
        ("layers", *(str(device.get("layers", 0)) for device in devices)),
    ]
    parts = [
        _load_line(answer),
        *([_other_machine(memory)] if memory is not None else []),
        _table(devices, extra),
        *_sentences(answer),
    ]
    return "\n\n".join(parts)


def loaded(model: Json) -> str:
    """`outrider ps --verbose`: one model of GET /api/ps."""
    memory = model.get("memory") or {}
    devices = memory.get("devices") or []
    total = ("total", *(humanize.memory(device.get("measured_bytes", 0)) for device in devices))
    planned_bytes = memory.get("planned_bytes", 0)
    title = f"{model['name']}: {humanize.memory(model.get('size', 0))} taken"
    if planned_bytes:
        title += f", {humanize.memory(planned_bytes)} planned"
    parts = [title, *([_table(devices, [total])] if devices else []), *_sentences(memory)]
    return "\n\n".join(parts)


def _load_line(answer: Json) -> str:
    drafter = PurePath(str(answer.get("drafter") or "")).name or "none"
    drafter = "its own" if drafter.startswith(BLOB) else drafter
    slots = answer.get("slots", 0)
    return (
        f"{answer.get('model')}: context {answer.get('context_length'):,}, "
        f"{slots} slot{'s' if slots != 1 else ''} with {answer.get('cells'):,} cells, "
        f"KV cache {answer.get('kv_cache_type')}, drafter {drafter}"
    )


def _other_machine(memory: Sequence[int]) -> str:
    *others, last = ["", *(humanize.memory(size) for size in memory if size)]
    if not last:
        return NO_GPU
    sizes = f"{', '.join(others[1:])} and {last}" if others[1:] else last
    return OTHER_MACHINE.format(f"GPUs of {sizes}" if others[1:] else f"a GPU of {sizes}")


def _table(devices: Sequence[Json], extra: Iterable[Sequence[str]]) -> str:
    """Parts that no device holds are left out."""
    names = [str(device.get("device", "?")) for device in devices]
    rows = [
        (part, *(humanize.memory(device.get(field, 0)) for device in devices))
        for field, part in PARTS.items()
        if any(device.get(field) for device in devices)
    ]
    return table.render([("PART", *names), *rows, *extra])


def _sentences(answer: Json) -> list[str]:
    """What was given up, and what clients are told; one text, or none."""
    lines = [f"Given up: {sentence}" for sentence in answer.get("concessions") or ()]
    lines += [f"Warning: {sentence}" for sentence in answer.get("warnings") or ()]
    return ["\n".join(lines)] if lines else []
