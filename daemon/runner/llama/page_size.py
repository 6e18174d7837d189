"""Which memory of a runner lies in huge pages?

Weights do, by a setting of glibc (`RUNNER_ENV`): each token reads all of them, which is 6 % faster
(SmolLM2 135M on 2 cores). A KV cache does not: it is cleared when it is made, most of its cells may
never be used, and where free memory is fragmented Linux takes up to 2 ms to make one huge page: a
cache of 0.7 GB took 1.7 s instead of 0.2 s.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SET_THP_DISABLE = 41  # linux/prctl.h: PR_SET_THP_DISABLE, for page faults of this process

log = logging.getLogger(__name__)


@contextmanager
def normal_pages() -> Iterator[None]:
    """What is first touched while the block lasts lies in pages of the normal size (Linux)."""
    _disable_huge_pages(1)
    try:
        yield
    finally:
        _disable_huge_pages(0)


def _disable_huge_pages(is_disabled: int) -> None:
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(SET_THP_DISABLE, is_disabled, 0, 0, 0):
        log.debug("the size of pages cannot be chosen: error %d", ctypes.get_errno())
