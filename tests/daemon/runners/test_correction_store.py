"""What loads have taken is kept beside what was predicted."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.daemon.protocol import DeviceBytes, Load, Ready
from outrider.daemon.runners.correction_store import (
    MAX_OBSERVATIONS,
    CorrectionStore,
    Observation,
    corrected_estimate,
    learn_corrections,
    observe,
)
from outrider.daemon.runners.plan import LoadPlan
from outrider.quant.gguf import read_header
from outrider.quant.memory import (
    ContextShape,
    MemoryEstimate,
    ModelHeaders,
    PartBytes,
    Placement,
    estimate_memory,
)
from tiny import write_llama

pytestmark = pytest.mark.unit

LOAD = Load("/m.gguf", num_ctx=512, cells=2048, slots=4, batch=128)


def seen(number: int) -> Observation:
    device = DeviceBytes("CPU", False, weights_bytes=number)
    return Observation((device,), (device,))


def test_the_last_loads_are_kept_on_disk(tmp_path: Path) -> None:
    store = CorrectionStore.of(tmp_path)
    assert store.find("llama", "cpu") == ()
    for number in range(MAX_OBSERVATIONS + 2):
        store.add("llama", "cpu", seen(number))
    store.add("gemma4", "cpu", seen(99))
    store.add("llama", "gpu", seen(98))
    again = CorrectionStore.of(tmp_path)
    assert [each.measured[0].weights_bytes for each in again.find("llama", "cpu")] == list(
        range(2, MAX_OBSERVATIONS + 2)
    )
    assert again.find("gemma4", "cpu") == (seen(99),)
    files = list((tmp_path / "outrider" / "memory").iterdir())
    assert [path.suffix for path in files] == [".json"] * 3


def test_the_same_load_again_writes_nothing(tmp_path: Path) -> None:
    store = CorrectionStore(tmp_path)
    store.add("llama", "cpu", seen(1))
    (path,) = tmp_path.iterdir()
    path.unlink()
    store.add("llama", "cpu", seen(1))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CorrectionStore(tmp_path).add("llama", "cpu", seen(1))
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    store = CorrectionStore(tmp_path)
    assert store.find("llama", "cpu") == ()
    assert str(path) in caplog.text
    store.add("llama", "cpu", seen(2))
    assert CorrectionStore(tmp_path).find("llama", "cpu") == (seen(2),)


def test_a_folder_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = CorrectionStore(blocked)
    store.add("llama", "cpu", seen(1))
    assert "cannot be kept" in caplog.text
    assert store.find("llama", "cpu") == (seen(1),)


def test_an_observation_compares_the_parts_that_are_measured() -> None:
    need = MemoryEstimate(
        PartBytes(weights_bytes=10, compute_bytes=5),
        (PartBytes(cache_bytes=80, overhead_bytes=1000),),
    )
    plan = LoadPlan(LOAD, need, gpus=("CUDA0",))
    measured = (
        DeviceBytes("CPU", False, weights_bytes=10),
        DeviceBytes("CUDA0", True, cache_bytes=90),
    )
    found = observe(plan, Ready(100, 90, devices=measured))
    assert found
    assert [device.total_bytes for device in found.predicted] == [15, 80]
    assert found.error == pytest.approx(-0.05)
    assert observe(plan, Ready(100, 90)) is None


def test_what_loads_have_taken_corrects_the_next_prediction(tmp_path: Path) -> None:
    model = ModelHeaders(read_header(write_llama(tmp_path / "tiny.gguf")))
    context, placement = ContextShape(4096, 12, 128, "f16"), Placement()
    plain = estimate_memory(model, context, placement).host
    need = MemoryEstimate(plain)
    measured = DeviceBytes(
        "CPU",
        False,
        weights_bytes=plain.weights_bytes,
        cache_bytes=plain.cache_bytes,
        compute_bytes=plain.compute_bytes * 3 // 2,
    )
    plan = LoadPlan(LOAD, need)
    loads = [observe(plan, Ready(1, 0, devices=(measured,)))] * 16
    records = learn_corrections(load for load in loads if load)
    found = corrected_estimate(records, ())(model, context, placement).host
    assert found.compute_bytes == pytest.approx(1.5 * plain.compute_bytes, rel=0.02)
    assert found.weights_bytes == plain.weights_bytes
    corrected = LoadPlan(LOAD, MemoryEstimate(found), uncorrected=need)
    again = observe(corrected, Ready(1, 0, devices=(measured,)))
    assert again == loads[0], "a corrected prediction would be learned again and again"
