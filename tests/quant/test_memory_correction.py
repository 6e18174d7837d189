"""Corrections converge to what loads take, and one strange load does no harm."""

from __future__ import annotations

import pytest
from outrider.quant.memory import MemoryEstimate, PartBytes
from outrider.quant.memory_correction import (
    MAX_OFFSET_BYTES,
    RATIOS,
    UNCORRECTED,
    MemoryCorrection,
    apply,
    correct,
    learn,
)

pytestmark = pytest.mark.unit

PREDICTED = PartBytes(weights_bytes=1000, cache_bytes=500, compute_bytes=200, overhead_bytes=30)


def after(record: MemoryCorrection, *loads: PartBytes) -> MemoryCorrection:
    for measured in loads:
        record = learn(record, PREDICTED, measured)
    return record


def test_without_loads_a_prediction_stays_as_it_is() -> None:
    assert apply(UNCORRECTED, PREDICTED) == PREDICTED


def test_a_right_prediction_stays_right() -> None:
    assert after(UNCORRECTED, *[PREDICTED] * 5) == MemoryCorrection(1.0, 0, 5)


def test_loads_that_take_more_are_expected_to_take_more() -> None:
    more = PartBytes(weights_bytes=1000, cache_bytes=540, compute_bytes=260)
    found = apply(after(UNCORRECTED, *[more] * 20), PREDICTED)
    assert found.compute_bytes == pytest.approx(260, abs=2)
    assert found.overhead_bytes == pytest.approx(30 + 40, abs=2)
    assert found.cache_bytes == 500
    assert apply(after(UNCORRECTED, more), PREDICTED).compute_bytes == 230, "half at first"


@pytest.mark.parametrize("compute_bytes", [0, 1, 200_000_000])
def test_a_strange_load_moves_little_and_is_forgotten(compute_bytes: int) -> None:
    strange = PartBytes(weights_bytes=1 << 60, compute_bytes=compute_bytes)
    usual = after(UNCORRECTED, *[PREDICTED] * 8)
    moved = after(usual, strange)
    assert RATIOS[0] <= moved.ratio <= 1 + (RATIOS[1] - 1) / 5
    assert moved.offset_bytes <= MAX_OFFSET_BYTES // 5 + 1
    again = after(moved, *[PREDICTED] * 30)
    assert again.ratio == pytest.approx(1, abs=0.01)
    assert again.offset_bytes < MAX_OFFSET_BYTES // 100


def test_a_load_that_takes_less_lowers_no_offset() -> None:
    assert after(UNCORRECTED, PartBytes(compute_bytes=200)).offset_bytes == 0


def test_devices_have_their_own_records() -> None:
    estimate = MemoryEstimate(PREDICTED, (PREDICTED, PREDICTED, PartBytes()))
    found = correct(estimate, MemoryCorrection(1.5), (MemoryCorrection(2.0, 7),))
    assert found.host.compute_bytes == 300
    assert [gpu.compute_bytes for gpu in found.gpus] == [400, 200, 0]
    assert [gpu.overhead_bytes for gpu in found.gpus] == [37, 30, 0]
