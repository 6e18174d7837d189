"""Which memory of a runner lies in huge pages?

Weights do, by a setting of glibc (`RUNNER_ENV`): each token reads all of them, which is 3 to 6 %
faster (SmolLM2 135M on 2 cores). A KV cache does not: it is cleared when it is made, most of its
cells may never be used, and a huge page may have to be made first, by moving others or by the host
of a virtual machine. A cache of 0.7 GB took 0.03 to 1.7 s in huge pages, and 0.2 s in others.
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
