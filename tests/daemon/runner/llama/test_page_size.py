"""Huge pages are off while a context is made, and on again afterwards."""

from __future__ import annotations

import ctypes
import sys

import pytest
from outrider.daemon.runner.llama.page_size import normal_pages

GET_THP_DISABLE = 42  # linux/prctl.h

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux"),
]


def are_disabled() -> bool:
    return bool(ctypes.CDLL(None).prctl(GET_THP_DISABLE, 0, 0, 0, 0))


def test_they_are_off_in_the_block_only() -> None:
    with normal_pages():
        assert are_disabled()
    assert not are_disabled()
