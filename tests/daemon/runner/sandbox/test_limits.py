"""How much memory a runner may take."""

from __future__ import annotations

import msgspec
import pytest
from outrider.daemon.protocol import Load
from outrider.daemon.runner.sandbox.limits import load_limit

pytestmark = pytest.mark.unit

GIB = 1 << 30
LOAD = Load("/m", 512, cells=512, slots=1, batch=32, threads=8)


def test_the_bound_follows_from_the_plan() -> None:
    small, large = (
        load_limit(msgspec.structs.replace(LOAD, host_bytes=size)) for size in (GIB // 2, 40 * GIB)
    )
    assert 2 * GIB < small < 3 * GIB
    assert 60 * GIB < large < 63 * GIB


def test_nothing_planned_is_no_bound() -> None:
    assert load_limit(LOAD) == 0
