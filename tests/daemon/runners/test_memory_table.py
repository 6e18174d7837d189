"""The memory of plans and loaded models as fields of JSON."""

from __future__ import annotations

import pytest
from fake_runner import FakeRunner, FakeRunners
from outrider.daemon.protocol import DeviceBytes, Load, Ready
from outrider.daemon.runners.loaded_model import LoadedModel, RunnerSpec
from outrider.daemon.runners.machine import Gpu
from outrider.daemon.runners.memory_table import (
    describe_loaded,
    layers_by_device,
    measured_parts,
)
from outrider.daemon.runners.plan import LoadPlan
from outrider.quant.memory import MemoryEstimate, PartBytes

pytestmark = pytest.mark.unit

CPU = DeviceBytes("CPU", False, weights_bytes=1, cache_bytes=2, compute_bytes=4)
GPU = DeviceBytes("CUDA0", True, weights_bytes=8, adapter_bytes=16, drafter_bytes=32)


def load(**changes: object) -> Load:
    return Load("/m.gguf", 512, cells=512, slots=1, batch=32, **changes)  # type: ignore[arg-type]


def gpus(*free_bytes: int) -> list[Gpu]:
    return [Gpu(f"CUDA{i}", "", size, size) for i, size in enumerate(free_bytes)]


def loaded(plan: LoadPlan) -> LoadedModel:
    runners = FakeRunners()
    runners.ready = Ready(63, 56, refusal="no drafter: it is broken", devices=(CPU, GPU))
    spec = RunnerSpec("m", "digest", load())
    return LoadedModel(spec, plan, FakeRunner(spec.load, runners), 300.0)


PLAIN = LoadPlan(load(), MemoryEstimate(PartBytes()))


@pytest.mark.parametrize(
    ("changes", "free_bytes", "layers"),
    [
        ({}, (), [5]),
        ({}, (9,), [0, 5]),
        ({"gpu_layers": 3}, (9,), [2, 3]),
        ({"gpu_layers": 99}, (9,), [0, 5]),
        ({"gpu_layers": 0}, (9, 9), [5, 0, 0]),
        ({"tensor_split": (1.0, 1.0)}, (9, 9), [0, 3, 2]),
        ({"tensor_split": (0.0, 1.0)}, (9, 9), [0, 0, 5]),
        ({"gpu_layers": 4, "tensor_split": (3.0, 1.0)}, (9, 9), [1, 3, 1]),
        ({}, (30, 10), [0, 4, 1]),
        ({}, (0,), [5]),
    ],
)
def test_layers_of_a_model_of_four(
    changes: dict[str, object], free_bytes: tuple[int, ...], layers: list[int]
) -> None:
    assert layers_by_device(load(**changes), 4, gpus(*free_bytes)) == layers


def test_a_loaded_model_has_measured_rows_beside_its_plan() -> None:
    need = MemoryEstimate(PartBytes(weights_bytes=60), (PartBytes(cache_bytes=5),))
    plan = LoadPlan(load(), need, ("the context is 512",), ("2 layers are on the CPU",))
    told = describe_loaded(loaded(plan))
    assert told["planned_bytes"] == 65
    assert told["concessions"] == ["the context is 512"]
    assert told["warnings"] == ["2 layers are on the CPU", "no drafter: it is broken"]
    devices = told["devices"]
    assert isinstance(devices, list)
    assert [(row["device"], row["measured_bytes"]) for row in devices] == [
        ("CPU", 7),
        ("CUDA0", 56),
    ]
    assert devices[1]["drafter_bytes"] == 32


def test_where_a_plan_gives_up_nothing_the_runner_s_own_warning_stays() -> None:
    assert describe_loaded(loaded(PLAIN))["warnings"] == ["no drafter: it is broken"]


def test_parts_for_metrics_have_names_without_a_unit() -> None:
    parts = {(device, part): size for device, part, size in measured_parts(loaded(PLAIN))}
    assert parts["CUDA0", "drafter"] == 32
    assert parts["CPU", "cache"] == 2
    assert sum(parts.values()) == 63
